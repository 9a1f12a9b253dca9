"""Arrays and tables from files."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from tfp_flows.datasets import load

# A compressed file of which the end is missing.
CUT_SHORT = gzip.compress(b"1,2\n" * 99, mtime=0)[:-5]


@pytest.fixture
def file(tmp_path):
    """Writes text or arrays to a file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, dict):
            np.savez(path, **content)
        elif isinstance(content, np.ndarray):
            np.save(path, content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
        return path

    return write


def test_numpy_files(file):
    x = np.random.default_rng(0).normal(size=[20, 3]).astype(np.float32)
    source = load(file("a.npy", x), validation=0, test=0)
    assert source.name == "a.npy"
    np.testing.assert_array_equal(source.arrays("train")[0], x)
    source = load(str(file("a.npz", {"x": x, "labels": np.arange(20) % 3})))
    assert source.num_classes == 3
    assert source.sizes == {"train": 16, "validation": 2, "test": 2}
    source = load(file("b.npz", {"train": x, "validation": x[:3], "test": x[:5]}))
    assert source.sizes == {"train": 20, "validation": 3, "test": 5}


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4.5\n",
        "a,b\n1,2\n3,4.5",
        '\ufeff"a","b"\r\n1,2\r\n\r\n3,4.5\r\n',
        "\na,b\n 1 , 2\n3e0,45e-1\n",
        "a;b\n1;2\n3;4.5\n",
        "1;2\n3;4.5\n",
        "a\tb\n1\t2\n3\t4.5\n",
        'a;"b, c"\n1;2\n3;4.5\n',
        '"a\nb",c\n1,2\n3,4.5\n',
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "T.CSV.GZ", "t.tsv"])
def test_tables(file, text, name):
    content = gzip.compress(text.encode()) if name.endswith("GZ") else text
    source = load(file(name, content), validation=0, test=0)
    np.testing.assert_array_equal(source.arrays("train")[0], [[1, 2], [3, 4.5]])
    assert source.bounds is None


@pytest.mark.parametrize("name", ["t.data", "t.txt", "T.DAT.GZ", "t.csv"])
@pytest.mark.parametrize("header", ["", "a  b\n", "\n"])
def test_tables_with_blanks(file, name, header):
    text = f"{header}  1    2e0\n\n-3.5 4 \n"
    content = gzip.compress(text.encode()) if name.endswith("GZ") else text
    source = load(file(name, content), validation=0, test=0)
    np.testing.assert_array_equal(source.arrays("train")[0], [[1, 2], [-3.5, 4]])
    assert source.columns == (("a", "b") if "a" in header else ("0", "1"))


def test_mistakes_in_a_table_with_blanks(file):
    with pytest.raises(ValueError, match="row 2, column '1': '\\?' is no number"):
        load(file("t.data", "1 2\n3 ?\n"))
    with pytest.raises(ValueError, match="row 3: 3 cells, but the table has 2 columns"):
        load(file("t.data", "1 2\n3 4\n5 6 7\n"))


def test_a_name_with_a_blank(file):
    source = load(file("t.csv", "a b\n1\n2\n3\n"))
    assert source.columns == ("a b",)


def test_csv_of_one_column(file):
    assert load(file("t.csv", "1\n2\n3\n")).event_shape == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n", r"t\.csv, row 3, column 'b': 'x' is no number"),
        ("1,2\n3,\n", "row 2, column '1': '' is no number"),
        ("1,b\n3,4\n", "row 1, column '1': 'b' is no number"),
        ("a,b\n1,2\n3,4,5\n", "row 3: 3 cells, but the table has 2 columns"),
        ("a,b\n1,2\n3\n", "row 3: 1 cells"),
        ("a,b\n1,2,3\n4,5,6\n", "row 2: 3 cells, but the table has 2 columns"),
        ("a;b\n1,5;2,5\n", r"'1,5' is no number \(decimals need a point\)"),
        ("1,5;2,5;0,7\n1,5;2,5;0,8\n", "row 1, column '0': '1,5' is no number"),
        ("1,5\t2\n1,5\t3\n", "row 1, column '0': '1,5' is no number"),
        ("a,b\n1,nan\n3,inf\n4,5\n", r"column 'b': 2 \(of 3 rows\)"),
        ("1,nan\n3,4\n", "column '1': 1"),
        ("a,b\n", r"t\.csv is empty"),
        ("", r"t\.csv is empty"),
    ],
)
def test_wrong_csv(file, text, message):
    with pytest.raises(ValueError, match=message):
        load(file("t.csv", text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"no array", "not a readable .npy file"),
        ("a.npz", {"x": np.array([{}])}, "not a readable .npz file of numbers"),
        ("a.npy", np.array([[object()]]), "not a readable .npy file of numbers"),
        ("a.csv", b"1,2\n\xff,3\n", "not a table in UTF-8"),
        ("a.text", "1,2", r"must be .npy, .npz, .csv.*Save its numbers"),
        ("a.mat", "MATLAB", r"scipy\.io\.loadmat.*numpy\.save"),
        ("a.parquet", "PAR1", r"pandas\.read_parquet"),
        ("a.XLSX", "PK", r"pandas\.read_excel"),
        ("a.pkl", b"\x80", r"if you trust it"),
        ("a.csv.gz", b"1,2\n", r"not a readable \.gz file"),
        (
            "a.csv.gz",
            gzip.compress(b"1,2\n" * 99, mtime=0)[:-5],
            r"not a readable \.gz file",
        ),
    ],
)
def test_wrong_files(file, name, content, message):
    with pytest.raises(ValueError, match=message):
        load(file(name, content))


def test_truncated_npz(file):
    path = file("a.npz", {"x": np.zeros([100, 3])})
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="not a readable"):
        load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.csv"):
        load(tmp_path / "nowhere.csv")


def test_names_of_columns(file):
    assert load(file("t.csv", '"a b",c\n1,2\n3,4')).columns == ("a b", "c")
    assert load(file("t.csv", "1,2\n3,4")).columns == ("0", "1")


def declared(shape, data=b""):
    """A .npy file whose header declares more than there is."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_a_header_that_declares_more_than_there_is(file, tmp_path, ending):
    content = declared((10**12, 10), b"12345678")
    path = file("a" + ending, content)
    if ending == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=r"declares float64 \[1000000000000, 10\]"):
        load(path)
    with pytest.raises(ValueError, match="declares"):
        load(file("b.npy", declared((-(10**13), -1))))


def test_an_archive_that_unfolds_to_far_more(file, monkeypatch):
    from tfp_flows.datasets import files

    monkeypatch.setattr(files, "_UNFOLDS_TO", 2**16)
    zeros = io.BytesIO()
    np.savez_compressed(zeros, x=np.zeros((2**14, 2)))
    with pytest.raises(ValueError, match=r"would unfold from [\d,]+ to 262,\d+ bytes"):
        load(file("a.npz", zeros.getvalue()))


def test_a_table_that_unfolds_to_far_more(file, monkeypatch):
    from tfp_flows.datasets import files

    monkeypatch.setattr(files, "_UNFOLDS_TO", 2**16)
    packed = gzip.compress(b"1,2\n" * 2**20)
    with pytest.raises(ValueError, match=r"would unfold from [\d,]+ to more than"):
        load(file("a.csv.gz", packed))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_line_without_an_end(file, name):
    text = b"1,2\n" + b"1," * (2**23 + 2**20)
    content = gzip.compress(text, 1) if name.endswith("gz") else text
    with pytest.raises(ValueError, match="a line of more than 16,777,216 bytes"):
        load(file(name, content))
