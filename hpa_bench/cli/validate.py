"""`hpa-bench validate`: check a suite and all its data, training nothing."""

from hpa_bench.cli import options


def validate(
    suite: options.Suite = "tiny",
    settings: options.Settings = [],  # noqa: B006
    data_root: options.DataRoot = None,
) -> None:
    """Open every data set that a suite names, check every row and image, and say what is there."""
    from rich.table import Table

    from hpa_bench.cli.console import make_console
    from hpa_bench.samples import check_task, load_tasks
    from hpa_bench.spec import make_spec

    resolved = make_spec(suite, "seqft", settings=settings, data_root=data_root).suite
    resolved.model_path()
    table = Table("set", "kind", "training", "test", "images", title=f"suite {resolved.name}")
    sets = [(name, "task") for name in resolved.tasks]
    sets += [(name, "safety") for name in resolved.safety_sets]
    sets += [(name, "benign") for name in resolved.benign_sets]
    sources = (resolved.calibration.safety_set, resolved.harmful_data)
    sets += [(name, "source") for name in sources if name]
    tasks = load_tasks(
        [name for name, _ in sets],
        resolved.task_folders(),
        split=resolved.evaluation.split,
        data_root=resolved.data_root,
    )
    for name, kind in sets:
        training = check_task(tasks[name], "training") if kind in ("task", "source") else []
        test = check_task(tasks[name], resolved.evaluation.split) if kind != "source" else []
        images = sum(len(sample.images) for sample in [*training, *test])
        table.add_row(name, kind, str(len(training) or "-"), str(len(test) or "-"), str(images))
    console = make_console()
    console.print(table)
    console.print("Everything that the suite names is there.")
