"""A search for hyperparameters with Optuna, seen in TensorBoard.

Trials train a flow on two moons, and stop early where others did better.

    python examples/tune.py && tensorboard --logdir runs/tune
"""

import keras
import optuna

import tfp_flows


class Prune(keras.callbacks.Callback):
    """Reports each epoch to a trial, which ends if it is behind the others."""

    def __init__(self, trial):
        super().__init__()
        self.trial = trial

    def on_epoch_end(self, epoch, logs=None):
        self.trial.report(logs["val_nll"], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main(trials=12, epochs=20, directory="runs/tune", points=5000):
    source = tfp_flows.datasets.load("moons", n=(points, 2000, 1))
    train, held_out = (source.arrays(split)[0] for split in ("train", "validation"))

    def objective(trial):
        keras.utils.set_random_seed(0)
        flow = tfp_flows.flows.real_nvp(
            source.event_shape,
            layers=trial.suggest_int("layers", 2, 8, step=2),
            width=trial.suggest_categorical("width", [16, 32, 64]),
        )
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        model = tfp_flows.FlowModel(flow)
        model.compile(keras.optimizers.Adam(rate))
        board = keras.callbacks.TensorBoard(f"{directory}/{trial.number}")
        options = {"batch_size": 256, "epochs": epochs, "verbose": 0}
        callbacks = [board, Prune(trial)]
        model.fit(train, validation_data=held_out, callbacks=callbacks, **options)
        return model.evaluate(held_out, verbose=0, return_dict=True)["nll"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, pruner = optuna.samplers.TPESampler(seed=0), optuna.pruners.MedianPruner()
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=trials)
    pruned = sum(t.state == optuna.trial.TrialState.PRUNED for t in study.trials)
    print(f"{study.best_value:.3f} nats with {study.best_params}; {pruned} pruned")
    return study


if __name__ == "__main__":
    main()
