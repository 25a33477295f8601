"""The workers of a study, started: in this process, in processes of their own, or as jobs of a launcher of Hydra."""

import io
import math
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from omegaconf import DictConfig

from sweeps.connections import told_to
from sweeps.databases import resolve_url
from sweeps.study.plan import Plan
from sweeps.study.processes import Processes
from sweeps.study.progress import News, ProgressLine
from sweeps.study.report import StudyReport
from sweeps.study.worker import Worker
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.storage import quiet_optuna
from sweeps.trials.trials import Trials


def run_workers(plan: Plan, report: StudyReport) -> None:
    """Run the workers in this process, in processes of their own, or as jobs of the launcher that the user chose."""
    if plan.cfg.hydra.runtime.choices["hydra/launcher"] != "basic":
        _launch_workers(plan)
        return
    line = ProgressLine(plan.name)

    def show(news: News) -> None:
        line.show(news)
        if news.standing:  # a worker is between two trials
            report.update_if_due()

    try:
        with told_to(line.write):
            if plan.workers == 1:
                Worker(plan, show).run()
                return
            Processes(plan, show, line.gone, partial(_bury, plan)).run(meanwhile=report.prepare)
    finally:
        line.close()


def _bury(plan: Plan, worker: str) -> None:
    for name in (plan.name, confirm_study_name(plan.name)):
        Trials(plan.storage, name).bury(worker)


def _launch_workers(plan: Plan) -> None:
    """Run the workers of the study as jobs of Hydra's launcher, `study.workers_per_job` in each."""
    sent = replace(plan, storage="")  # launchers keep what they send in files, and an address may hold a password
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=plan.jobs.hydra_context, task_function=LaunchedWorker(sent), config=plan.cfg
    )
    name = plan.cfg.hydra.runtime.choices["hydra/launcher"]
    jobs = math.ceil(plan.workers / plan.workers_per_job)
    workers = f"{plan.workers} workers run as {'a job' if jobs == 1 else f'{jobs} jobs'} of hydra/launcher={name}"
    print(f"makemore: {workers}; see makemore ui", file=sys.stderr)
    overrides = [*plan.space.fixed, "hydra.sweep.subdir=workers/${hydra.job.num}"]
    for job_return in launcher.launch([overrides] * jobs, 0):
        if job_return.status == JobStatus.FAILED:
            with redirect_stderr(io.StringIO()):  # it also prints the job's overrides
                job_return.return_value  # noqa: B018 - the property raises what the job raised


@dataclass(frozen=True)
class LaunchedWorker:
    """The task function of a launcher's job, which may run in another process or on another machine."""

    plan: Plan

    def __call__(self, cfg: DictConfig) -> None:
        """Run the workers of one job until the study has nothing left to do."""
        quiet_optuna()
        storage = resolve_url("study.storage", str(self.plan.cfg.study.storage), table="studies")
        each, job = self.plan.workers_per_job, int(HydraConfig.get().job.num)
        plan = replace(self.plan, storage=storage, workers=min(each, self.plan.workers - job * each))
        if each == 1:
            Worker(plan, lambda news: None).run()
        else:  # a launcher's process may have threads, which a fork does not survive
            Processes(plan, lambda news: None, lambda worker: None, partial(_bury, plan), method="spawn").run()
