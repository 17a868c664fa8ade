import lm_eval
import pytest

from hpa_bench.data.tasks import check_task, load_tasks, training_samples
from hpa_bench.engines.base import Engine
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.runner.evaluation import EngineLM, Evaluator, request_limits
from tests.support.lmeval_tasks import row, rows, write_task
from tests.support.models import random_llava, save_random_llava


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_task(tmp_path_factory.mktemp("tasks"), "colours", {"train": rows(3), "test": rows(12)})
    unsafe = [row(i, category="fraud", question="<image>\nhow many ?") for i in range(4)]
    return write_task(folder, "unsafe", {"test": unsafe}, metric="bypass", doc_to_target="")


@pytest.fixture(scope="module")
def tasks(folder):
    return load_tasks(["colours", "unsafe"], [folder])


@pytest.fixture(scope="module")
def engine():
    return HFEngine(*random_llava())


class Says(Engine):
    """Answers every request by a function of its place; counts its calls."""

    def __init__(self, answer):
        self.processor = random_llava()[1]
        self.answer = answer
        self.calls = 0

    @classmethod
    def open(cls, path, **options):
        raise NotImplementedError("built by hand")

    def generate(self, requests, on_progress=None):
        self.calls += 1
        return [self.answer(i) for i in range(len(requests))]


def test_rows_hold_what_was_asked_said_and_scored(tasks):
    says = Says(lambda i: ("red", "green", "blue")[i % 3] if i < 6 else "no")

    found = Evaluator(tasks).evaluate(says)

    assert found["colours"][1] == {
        "id": "r1",
        "prompt": "<image>\nwhat colour is this there there ?",
        "target": "green",
        "response": "green",
        "score": 1.0,
    }
    assert [each["score"] for each in found["colours"]] == [1.0] * 6 + [0.0] * 6
    assert found["unsafe"][0] | {"response": ""} == {
        "id": "r0",
        "prompt": "<image>\nhow many ?",
        "target": "",
        "response": "",
        "score": None,
        "category": "fraud",
    }
    assert says.calls == 1


def test_rows_say_whether_responses_have_the_form_that_their_task_declares(tmp_path):
    several = [row(0, answers=["red", "a very red house"]), row(1, answers=["red", "rose"])]
    write_task(tmp_path, "shades", {"test": several}, metadata={"version": 1.0, "form": "words"})
    says = Says(lambda i: " A very red house\n")

    found = Evaluator(load_tasks(["shades"], [tmp_path])).evaluate(says)["shades"]

    assert [(each["in_form"], each["score"]) for each in found] == [(True, 0.0), (False, 0.0)]


def test_engine_answers_reach_their_rows(tasks, engine):
    evaluator = Evaluator(tasks)
    found = evaluator.evaluate(engine)
    alone = evaluator.answer(engine, check_task(tasks["colours"], "test"))
    assert [each["response"] for each in found["colours"]] == alone


def test_rows_that_are_rendered_already_are_asked_as_they_are(folder, engine, monkeypatch):
    tasks = load_tasks(["colours"], [folder])
    samples = {"colours": check_task(tasks["colours"], "test")}
    opened, asked = [], []
    monkeypatch.setattr(tasks["colours"], "doc_to_image", lambda doc: opened.append(doc))
    monkeypatch.setattr(engine, "generate", lambda requests, _=None: asked.extend(requests) or ["red"] * len(requests))

    found = Evaluator(tasks, samples=samples).evaluate(engine)["colours"]

    assert opened == []
    assert all(request.images is sample.images for request, sample in zip(asked, samples["colours"], strict=True))
    assert [(row["id"], row["prompt"], row["target"]) for row in found] == [
        (sample.id, sample.prompt, sample.target) for sample in samples["colours"]
    ]


def test_stages_do_not_mix(tasks, engine):
    evaluator = Evaluator(tasks)
    first = evaluator.evaluate(engine)
    other = evaluator.evaluate(HFEngine(*random_llava(seed=1)))

    assert other != first
    assert evaluator.evaluate(engine) == first == Evaluator(tasks).evaluate(engine)


def test_limit(tasks, engine):
    found = Evaluator(tasks, limit=2).evaluate(engine)
    assert [each["id"] for each in found["colours"]] == ["r0", "r1"]
    assert len(found["unsafe"]) == 2


def test_quiet_but_for_progress(tasks, engine, capfd):
    seen = []
    Evaluator(tasks).evaluate(engine, lambda done, total: seen.append((done, total)))

    assert seen[-1] == (16, 16)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_lm_eval_itself_agrees(folder, tmp_path, engine):
    """`lm_eval run --model hpa-bench` on the same folder gives our scores."""
    from lm_eval.tasks import TaskManager

    save_random_llava(tmp_path / "model")
    results = lm_eval.simple_evaluate(
        model="hpa-bench",
        model_args={"pretrained": str(tmp_path / "model")},
        tasks=["colours"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
        batch_size=4,
    )
    ours = Evaluator(load_tasks(["colours"], [folder])).evaluate(engine)["colours"]

    logged = {each["doc"]["id"]: each for each in results["samples"]["colours"]}
    assert {each["id"]: each["response"] for each in ours} == {
        name: each["resps"][0][0] for name, each in logged.items()
    }
    assert results["results"]["colours"]["right,none"] == sum(each["score"] for each in ours) / len(ours)


def test_a_score_beyond_one_is_refused(tmp_path):
    write_task(tmp_path, "colours", {"test": rows(3)})
    (tmp_path / "utils.py").write_text((tmp_path / "utils.py").read_text().replace("float(", "100 * float("))
    tasks = load_tasks(["colours"], [tmp_path])

    with pytest.raises(
        UserError, match=r"Metric 'right' of task 'colours' gives 100\.0 for sample 'r0': expected .* 0 to 1"
    ):
        Evaluator(tasks).evaluate(Says(lambda i: "red"))


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        (None, (256, ())),
        ({"until": "."}, (256, (".",))),
        ({"max_gen_toks": 7, "max_new_tokens": 8}, (7, ())),
        ({"max_new_tokens": 8, "max_tokens": 9}, (8, ())),
        ({"max_tokens": 9, "max_completion_tokens": 10}, (9, ())),
        ({"until": ["a", "b"], "max_completion_tokens": 10}, (10, ("a", "b"))),
    ],
)
def test_the_limits_of_a_request_have_the_names_that_lm_eval_knows(generation, expected):
    assert request_limits(generation) == expected


def test_sampling_is_refused(tmp_path, engine):
    sampling = {"until": [], "do_sample": True}
    write_task(tmp_path, "colours", {"test": rows(3)}, generation_kwargs=sampling)

    with pytest.raises(UserError, match="Task 'colours' asks for sampling"):
        Evaluator(load_tasks(["colours"], [tmp_path])).evaluate(engine)


def test_likelihoods_are_refused(engine):
    with pytest.raises(UserError, match="hpa-bench generates"):
        EngineLM(engine).loglikelihood([])


def test_answers_are_the_models_own(tasks, engine):
    samples = training_samples(tasks["colours"])
    assert len(Evaluator(tasks).answer(engine, samples)) == 3
