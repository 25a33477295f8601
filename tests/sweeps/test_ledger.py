"""The ledger remembers a person's looks: in another folder, after `rm -rf mlruns`, and at a list that was edited."""

import json
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Makemore, call, start
from sqlalchemy import create_engine

from sweeps.look.record import Looks
from sweeps.tracking.store import MlflowClient

TINY = (
    "train.steps=20",
    "train.evaluations=2",
    "model.hidden_neurons=4,8",
    "space=none",
    "sampler=grid",
    "pruner=none",
)
SWEEP = ("sweep", "study.workers=1", "study.confirm.top=0", *TINY)
LOOK = ("final-test", "final_test.confirm=true", "format=json")


def made_up(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(4, 9))) for _ in range(count)]


WORDS = made_up(400, 1)


def write(path: Path, words: list[str]) -> Path:
    path.write_text("\n".join(words), encoding="utf-8")
    return path


@pytest.fixture
def looked(makemore: Makemore, workdir: Path) -> Path:
    """A folder with a list, a study of it, and the look at its test split."""
    data = write(workdir / "list.txt", WORDS)
    assert makemore(*SWEEP, "study.name=a", "data=file", f"data.path={data}").code == 0
    answer = makemore(*LOOK, "study.name=a")
    assert answer.code == 0, answer.err
    return workdir


def look_again(makemore: Makemore, data: Path, *more: str, name: str = "b", split: str = "disjoint") -> tuple[int, str]:
    sweep = makemore(*SWEEP, f"study.name={name}", "data=file", f"data.path={data}", f"data.split={split}", *more)
    assert sweep.code == 0, sweep.err
    places = [word for word in more if word.startswith(("study.storage", "tracking."))]
    answer = makemore(*LOOK, f"study.name={name}", *places)
    return answer.code, answer.err


def asks_for_a_reason(answer: tuple[int, str]) -> str:
    code, err = answer
    assert code == 2, err
    assert "have been looked at: look 1 by" in err
    assert 'another look needs final_test.reason="..."' in err
    return err


def ledger_of(state: Path) -> Looks:
    return Looks(f"sqlite:///{state}/makemore/looks.db", by="study_id")


def test_a_new_folder_knows_the_look(
    makemore: Makemore, looked: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    listed = makemore("looks")
    assert listed.code == 0
    assert "for study a" in listed.out
    assert "known to the ledger alone" in " ".join(listed.out.split())
    err = asks_for_a_reason(look_again(makemore, looked / "list.txt"))
    assert "recorded in the ledger, which saw 100% of this test split" in err
    answer = makemore(*LOOK, "study.name=b", "final_test.reason=another folder")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["look"] == 2


@pytest.mark.slow
def test_a_deleted_mlruns_is_remembered(tmp_path: Path) -> None:
    """In processes of their own: this one would hold on to the files that are deleted."""
    data = write(tmp_path / "list.txt", WORDS)
    study = (*SWEEP, "study.name=a", "data=file", f"data.path={data}")
    call(tmp_path, *study)
    call(tmp_path, *LOOK, "study.name=a")
    shutil.rmtree(tmp_path / "mlruns")
    call(tmp_path, *study)
    again = start(*LOOK, "study.name=a", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = again.communicate(timeout=120)
    asks_for_a_reason((again.returncode, err))


@pytest.mark.slow
def test_another_storage_and_another_tracking_know_the_look(makemore: Makemore, looked: Path) -> None:
    (looked / "other").mkdir()
    storage = f"study.storage=sqlite:///{looked}/other/study.db"
    asks_for_a_reason(look_again(makemore, looked / "list.txt", storage))
    uri = f"tracking.uri=sqlite:///{looked}/other/mlflow.db"
    asks_for_a_reason(look_again(makemore, looked / "list.txt", uri, name="c"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "edited",
    [
        [*WORDS, "onemore"],
        WORDS[1:],
        [word.upper() for word in WORDS],
        sorted(set(WORDS)),
        [f" {word}" for word in WORDS] + WORDS[:50],
        WORDS + made_up(380, 2),
    ],
    ids=["one added", "one removed", "upper case", "sorted and distinct", "repeats", "merged"],
)
@pytest.mark.parametrize("split", ["disjoint", "lecture"])
def test_an_edited_list_is_recognised(makemore: Makemore, looked: Path, edited: list[str], split: str) -> None:
    err = asks_for_a_reason(look_again(makemore, write(looked / "edited.txt", edited), split=split))
    assert "of this test split" in err


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0, 8])
def test_a_list_that_shares_little_is_another_list(makemore: Makemore, looked: Path, shared: int) -> None:
    other = write(looked / "other.txt", WORDS[:shared] + made_up(400 - shared, 3))
    code, err = look_again(makemore, other)
    assert code == 0, err


@pytest.mark.slow
def test_without_a_ledger_nothing_is_remembered_and_the_record_says_so(
    makemore: Makemore, workdir: Path, own_state_folder: Path
) -> None:
    data = write(workdir / "list.txt", WORDS)
    assert makemore(*SWEEP, "study.name=a", "data=file", f"data.path={data}").code == 0
    answer = makemore(*LOOK, "study.name=a", "looks.ledger=null")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["has_ledger"] is False
    assert list(own_state_folder.iterdir()) == []


@pytest.mark.slow
def test_a_team_shares_a_ledger_by_its_url(makemore: Makemore, looked: Path) -> None:
    team = f"looks.ledger=sqlite:///{looked}/team.db"
    data = write(looked / "other.txt", made_up(400, 5))
    for name, reason, code in (("b", "", 0), ("c", "", 2), ("c", "mine", 0)):
        makemore(*SWEEP, f"study.name={name}", "data=file", f"data.path={data}")
        answer = makemore(*LOOK, f"study.name={name}", team, f"final_test.reason={reason or 'null'}")
        assert answer.code == code, answer.err
    assert [record.content["look"] for record in Looks(f"sqlite:///{looked}/team.db", by="study_id").claims()] == [1, 2]


def test_a_ledger_that_cannot_be_written_means_that_no_look_is_taken(
    makemore: Makemore, workdir: Path, own_state_folder: Path
) -> None:
    data = write(workdir / "list.txt", WORDS)
    assert makemore(*SWEEP, "study.name=a", "data=file", f"data.path={data}").code == 0
    (own_state_folder / "makemore").write_text("a file, and not a folder")
    answer = makemore(*LOOK, "study.name=a")
    assert answer.code == 2
    assert "looks.ledger is " in answer.err
    assert Looks(f"sqlite:///{workdir}/mlruns/study.db").records() == []


@pytest.mark.slow
def test_the_claim_and_the_result_are_in_both_places(makemore: Makemore, looked: Path, own_state_folder: Path) -> None:
    records = [
        [record for record in table.records() if record.kind in ("claim", "result")]
        for table in (Looks(f"sqlite:///{looked}/mlruns/study.db"), ledger_of(own_state_folder))
    ]
    assert [[record.kind for record in found] for found in records] == [["claim", "result"]] * 2
    assert records[0][1].content["test_loss"] == records[1][1].content["test_loss"]
    assert makemore("looks").code == 0


@pytest.mark.slow
def test_a_record_that_was_emptied_is_known_to_the_ledger(
    makemore: Makemore, looked: Path, own_state_folder: Path
) -> None:
    with closing(sqlite3.connect(looked / "mlruns/study.db")) as connection, connection:
        connection.execute("delete from looks")
    client = MlflowClient(tracking_uri=f"sqlite:///{looked}/mlruns/mlflow.db")
    for run in client.search_runs(["1"], "tags.kind = 'final_test'"):
        client.delete_run(run.info.run_id)
    answer = makemore("looks")
    assert answer.code == 1
    assert "BROKEN: study a: looks.ledger has a look that the database lacks" in " ".join(answer.out.split())
    again = makemore(*LOOK, "study.name=a")
    assert again.code == 2
    assert "looks.ledger has a look at its words for study a that study.storage lacks" in again.err


def test_an_altered_result_is_never_printed(makemore: Makemore, looked: Path) -> None:
    with closing(sqlite3.connect(looked / "mlruns/study.db")) as connection, connection:
        connection.execute(
            "update looks set record = replace(record, '\"test_loss\": ', '\"test_loss\": 1') where number = 2"
        )
    answer = makemore(*LOOK, "study.name=a")
    assert answer.code == 1
    assert "the result of study a is not shown: see makemore looks" in answer.out
    assert 'test_loss"' not in answer.out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml", "registered model"])
def test_files_that_were_swapped_after_the_look_are_found(makemore: Makemore, looked: Path, name: str) -> None:
    [claim] = Looks(f"sqlite:///{looked}/mlruns/study.db").claims()
    folder = looked / "mlruns/artifacts" / claim.content["run_id"] / "artifacts"
    if name == "config.yaml":
        path = folder / name
        path.write_text(path.read_text().replace("steps: 20", "steps: 21"))
    else:
        [other] = set((looked / "mlruns/artifacts").glob("*/artifacts/weights.safetensors")) - {
            folder / "weights.safetensors"
        }
        [model] = (looked / "mlruns/artifacts/models").rglob("weights.safetensors")
        shutil.copy(other, model if name == "registered model" else folder / name)
    answer = makemore("looks")
    assert answer.code == 1
    assert "were altered after the claim" in answer.out or "was altered after the claim" in answer.out


def test_a_study_that_was_stopped_is_not_looked_at_unless_told(makemore: Makemore, workdir: Path) -> None:
    data = write(workdir / "list.txt", WORDS)
    assert makemore(*SWEEP, "study.name=a", "data=file", f"data.path={data}").code == 0
    engine = create_engine(f"sqlite:///{workdir}/mlruns/study.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("update study_user_attributes set value_json = '40' where key = 'asked'")
    engine.dispose()
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"], "tags.kind = 'study'")
    client.set_terminated(run.info.run_id, "KILLED")
    answer = makemore(*LOOK, "study.name=a")
    assert answer.code == 2
    assert "its sweep was stopped at 2 of 40 trials" in answer.err
    assert makemore(*LOOK, "study.name=a", "final_test.unfinished=true").code == 0


@pytest.mark.slow
def test_looks_of_another_database_in_the_same_mlflow_count_and_are_not_lost(
    makemore: Makemore, looked: Path, own_state_folder: Path
) -> None:
    """Two people with a study database each: the second needs a reason, in whatever experiment the first looked."""
    shutil.rmtree(own_state_folder / "makemore")
    other = ("study.storage=sqlite:///mlruns/mine.db", "tracking.experiment=mine")
    code, err = look_again(makemore, looked / "list.txt", *other)
    assert code == 2
    assert "for study a, recorded in tracking.uri; another look needs" in err
    answer = makemore(*LOOK, "study.name=b", *other, "final_test.reason=mine")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["look"] == 2
    assert makemore("looks", *other).code == 0
