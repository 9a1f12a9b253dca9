def write_references(*a):
    pass
