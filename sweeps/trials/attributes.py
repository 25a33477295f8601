"""The attributes that our trials carry in Optuna's storage."""

from optuna.trial import TrialState

WORKER = "worker"  # the name of the worker that took the trial
WARM_START = "warm_start"  # which setting of the space's warm start the trial tries
PURPOSE = ("confirms", "seed", WARM_START)  # what a queued trial is for; its retry has the same
WEIGHTS_DEV_LOSS = "weights_dev_loss"  # of the weights that were kept; the trial's value may be a mean over seeds
RETRY_OF = "retry_of"  # the number of the failed trial whose setting is tried again
ATTEMPT = "attempt"  # at that setting: 1, 2, ...
TAKEN_FROM = "taken_from"  # the study and the trial that a trial was copied from; it counts for the sampler alone
SEARCHED_WITH = "searched_with"  # of a study: the samplers and pruners of all its sweeps, as "random/none"
ASKED = "asked"  # of a study: the total of trials that its last sweep was to bring it to
CHECKPOINTS = "checkpoints"  # for each seed, the run in MLflow that has the last checkpoint; its retry has the same
WORKER_DIED = "killed"  # the worker died while the process that started it lived

# Why a trial failed or was pruned. Optuna takes no attributes of a trial that has ended, so the reason is written
# before the state. A worker that dies between the two leaves a running trial, which is then marked as failed: hence a
# name for each state, or the reason for pruning would be read as the reason for failing.
REASONS = {TrialState.FAIL: "reason", TrialState.PRUNED: "pruning_reason"}
INTERRUPTED = "interrupted"  # the reason of a trial that Ctrl-C or study.timeout ended
NOT_RECORDED = "not recorded: "  # how the reason of a trial begins whose records could not be written
GIVEN_UP = "given up as dead"  # the reason of a trial that was marked as failed though its worker lives
DIED = "its worker died"  # the reason of a trial that was marked as failed because its worker died
