"""Each judge's floor: what it says of the sets' own reference answers, as a Markdown table.

ASR of safety sets and over-refusal of benign ones, in percent: a model that imitates the references can do no better.

Run: python scripts/judge_floors.py [--judge keyword] [--suite tiny] [--data-root FOLDER]
"""

import argparse

from hpa_bench.data.tasks import check_task, load_tasks
from hpa_bench.errors import UserError
from hpa_bench.judges.base import Judge, make_judge
from hpa_bench.spec import RunOptions, make_spec
from hpa_bench.suite import package_task_folders


def floor(judge: Judge, answers: list[dict[str, str]], benign: bool) -> str:
    """Return a judge's share of one set as a cell, or why it has none."""
    try:
        successes = judge.vocabulary.attack_success(judge.verdicts(answers))
    except UserError as error:
        return f"missing: {error}"
    return f"{100 * (1 - successes.mean() if benign else successes.mean()):.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judge", action="append", help="by default keyword, tiny_compliance and vlguard")
    parser.add_argument("--suite", default="tiny", help="whose safety and benign sets")
    parser.add_argument("--data-root", help="the folder of your downloads")
    options = parser.parse_args()

    suite = make_spec(RunOptions(options.suite, "seqft", data_root=options.data_root), model=False).suite
    where = suite.task_metadata()
    judges = [make_judge(text, where) for text in options.judge or ("keyword", "tiny_compliance", "vlguard")]
    tasks = load_tasks([*suite.safety_sets, *suite.benign_sets], package_task_folders(), metadata=where)
    print("| set | measure | n |", " | ".join(judge.label for judge in judges), "|")
    print("|---" * (3 + len(judges)) + "|")
    for name, task in tasks.items():
        benign = name in suite.benign_sets
        samples = [sample for sample in check_task(task, "test") if sample.target]
        answers = [
            {"id": each.id, "prompt": each.prompt, "target": each.target, "response": each.target} for each in samples
        ]
        cells = [floor(judge, answers, benign) if answers else "no references" for judge in judges]
        print(f"| `{name}` | {'over-refusal' if benign else 'ASR'} | {len(answers)} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
