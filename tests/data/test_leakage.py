from PIL import Image

from hpa_bench.data.leakage import find_leaks
from hpa_bench.data.samples import Sample


def asked(*questions: str) -> list[Sample]:
    image = Image.new("RGB", (4, 4), "red")
    return [Sample(str(i), "t", f"<image>\n{question}", "a", [image]) for i, question in enumerate(questions)]


def test_wording_counts_but_not_its_spelling() -> None:
    tests = {"t": asked("Is 5 < 6?", "What, is IT", "what is that ?")}
    sources = {"s": asked("is 5 > 6 ?", "what is it?", "is 5 < 6")}

    (leak,) = find_leaks(tests, sources, {})

    assert leak.pairs == [("1", "1"), ("0", "2")]
