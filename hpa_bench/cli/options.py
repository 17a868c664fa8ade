"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Suite = Annotated[str, typer.Option(help="A bundled suite, or the path of a suite's YAML file.")]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="A hyper-parameter of the method, or (dotted) a key of the suite."),
]
MOST_SEEDS = 1000
Methods = Annotated[
    str, typer.Option(help="Methods, separated by commas, settings after colons: hpa,hpa:p_max=20; all: every one.")
]
Seeds = Annotated[str, typer.Option(help="Seeds, as in 0-2 or 0,3,5.")]
Orders = Annotated[
    list[str],
    typer.Option(
        help="A training order: names (as tables show them, too) or numbers of tasks: 3,1,2. Several times: each."
    ),
]
HarmfulRatios = Annotated[
    list[float],
    typer.Option(help="A share of harmful training pairs (0.001 is 0.1%). Several times: each, with every order."),
]
NoiseRuns = Annotated[
    int,
    typer.Option(
        min=0,
        max=MOST_SEEDS,
        metavar="N",
        help="Also N noise runs of each method at the first seed, alike but for rounding (docs/tuning.md).",
    ),
]
Order = Annotated[
    str | None,
    typer.Option(help="The training order: task names, as tables show them too, or their numbers in the suite: 3,1,2."),
]
HarmfulRatio = Annotated[
    float, typer.Option(help="Replace this share of each task's training samples by harmful pairs (0.001 is 0.1%).")
]
HarmfulData = Annotated[
    str | None, typer.Option(help="The harmful pairs: a LLaVA-format JSON file, its images beside it.", metavar="FILE")
]
DataRoot = Annotated[
    str | None, typer.Option(help="The folder of your downloads, for suites that read them (see docs/data.md).")
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="Who generates: auto, hf, vllm or a plugin's (docs/engines.md). Short for --set evaluation.engine=."
    ),
]
Plugins = Annotated[
    list[Path],
    typer.Option("--plugin", help="A Python file that defines a method, engine, judge, launcher or observer."),
]
TunedFile = Annotated[
    Path | None,
    typer.Option("--tuned", metavar="FILE", help="What `hpa-bench tune` wrote: its settings beside the defaults."),
]
ShowUnsafe = Annotated[
    bool,
    typer.Option("--show-unsafe", help="Show requests, responses and images of safety sets in the report."),
]
Again = Annotated[
    bool,
    typer.Option("--again", help="Make anew what other model files or another plugin made; keep the old aside."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")]
With = Annotated[
    str | None,
    typer.Option(
        "--with",
        metavar="WHERE",
        help="Published results to stand beside, verified first; published: those that come with hpa-bench.",
    ),
]
Launcher = Annotated[
    str | None,
    typer.Option(
        help="Who starts the runs: local (unless told otherwise), slurm, ray or a plugin's, options after colons as in"
        " local:slots=2, or by --set launch.KEY=VALUE (docs/running-at-scale.md)."
    ),
]
LaunchFile = Annotated[
    Path | None,
    typer.Option("--launch-file", metavar="FILE", help="A YAML file with a section launch: the launcher, its options."),
]
Gpus = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Share these GPUs out, one a run, as in 0-7. Short for --set launch.gpus=LIST."),
]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="TRACKER",
        help="Tell a tracker of each run: tensorboard, trackio, wandb, mlflow, ..., options after colons as in"
        " wandb:project=mine.",
    ),
]
