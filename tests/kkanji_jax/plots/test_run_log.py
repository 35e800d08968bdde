"""Which evaluation of a run is drawn."""

from kkanji_jax.plots.run_log import RunLog


def test_of_equal_evaluations_the_latest_is_the_best_as_it_is_of_checkpoints():
    lines = [
        {"step": step, "val_accuracy": accuracy, "val_loss": loss}
        for step, accuracy, loss in ((9, 0.5, 1.0), (17, 0.5, 1.0), (25, 0.4, 2.0))
    ]
    log = RunLog("run", lines)
    assert log.chosen("best")["step"] == log.chosen("best", "val_loss")["step"] == 17
    assert log.chosen("last")["step"] == 25
