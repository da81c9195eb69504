"""Pictures and tables of README.md and docs/benchmark.md are what bench/results gives."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import machine, pages, results
from bench.errors import BenchError
from bench.plot import OTHERS, OURS, Bar, Panel, draw

SVG = "{http://www.w3.org/2000/svg}"
REMEDY = "run: make plots"


# What is kept


@pytest.mark.parametrize("path", sorted(results.FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_record_says_when_where_and_whether_it_was_measured_or_copied(path: Path) -> None:
    record = results.read(path.stem)
    assert re.search(r"\d{4}-\d\d-\d\d", record["when"])
    assert record["source"] == results.MEASURED or re.match(r"copied from \S+ as of \d{4}-", record["source"])
    assert record["machine"]["processors"] > 0
    if record["source"] == results.MEASURED:
        assert record["machine"].keys() == machine.describe().keys()


def test_a_record_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    results.write(tmp_path / "some.json", {"processors": 2}, subjects={"argotun": {"p50_1": 0.2}})
    record = results.read("some")
    assert record["source"] == results.MEASURED
    assert record["machine"] == {"processors": 2}
    assert record["subjects"] == {"argotun": {"p50_1": 0.2}}
    with pytest.raises(BenchError, match=r"no \S+other\.json"):
        results.read("other")


# What is shown


def test_every_picture_is_what_the_records_give() -> None:
    for name, text in pages.pictures().items():
        assert (pages.PICTURES / name).read_text("utf-8") == text, REMEDY


@pytest.mark.parametrize("document", pages.blocks(), ids=lambda path: path.name)
def test_the_figures_of_a_document_are_those_of_the_records(document: Path) -> None:
    text = document.read_text("utf-8")
    assert pages.filled(text, pages.blocks()[document]) == text, REMEDY


def test_the_readme_says_no_figure_of_speed_outside_of_what_the_records_give() -> None:
    text = pages.README.read_text("utf-8")
    begin, end = (text.index(f"<!-- figures: {word} -->") for word in ("begin", "end"))
    assert not re.search(r"\d (?:µs|ms|MB/s|KiB)\b|requests/s", text[:begin] + text[end:])


def _cells(title: str, after: str) -> list[str]:
    """The cells of one row of docs/benchmark.md, in the first table after these words."""
    text = pages.BENCHMARK.read_text("utf-8")
    table = re.search(r"(?:^\|.*\n)+", text[text.index(after) :], re.M)
    assert table
    (row,) = (line for line in table[0].splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in row.split("|")[2:-1]]


@pytest.mark.parametrize(
    ("name", "after"), [("fairness-link", "Over a link of 20 ms"), ("fairness", "Without a link, where")]
)
def test_latencies_beside_floods_are_those_of_the_record(name: str, after: str) -> None:
    phases = results.read(name)["phases"]
    assert len(phases) > 10
    for phase in phases:
        latency = [1000 * phase["latency"][key] for key in ("p50", "p99", "worst")]
        assert [float(cell) for cell in _cells(phase["name"], after)[:3]] == pytest.approx(latency, rel=0.01)


def test_figures_of_the_long_link_are_those_of_the_record() -> None:
    record = results.read("link")
    for title, key in (
        ("200 MB down: MB/s", "down"),
        ("200 MB up: MB/s", "up"),
        ("GET on a kept connection: RTTs", "kept"),
        ("first GET of a connection, its opening included: RTTs", "first"),
        ("200 applies on 20 new connections: RTTs", "applies"),
    ):
        said = [float(cell.split()[0]) for cell in _cells(title, "## Long links")[:2]]
        assert said == pytest.approx([record[side][key] for side in ("direct", "argotun")], rel=0.01)


def test_another_figure_makes_another_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = pages.pictures(), results.read

    def other(name: str) -> results.Record:
        record = read(name)
        if name == "table":
            record["subjects"]["argotun"]["rate_64"] *= 2
        return record

    monkeypatch.setattr(results, "read", other)
    after = pages.pictures()
    assert [name for name in before if before[name] != after[name]] == ["bench.svg"]
    assert pages.comparison_table() not in pages.README.read_text("utf-8")


def test_every_peer_that_was_measured_is_shown_and_no_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    read = results.read

    def with_peers(name: str) -> results.Record:
        record = read(name)
        if name == "table":
            record["subjects"] = {
                "direct": {"p50_1": 0.07},
                "argotun": {**record["subjects"]["argotun"], "p50_1": 0.23},
                "nginx-hops": {"p50_1": 0.15, "cpu_together_64": 55.0},
                "chisel": {"up_rate": 222.0},
                "hop": {"p50_1": 9.9},
                "against": {"p50_1": 9.9},
            }
        return record

    monkeypatch.setattr(results, "read", with_peers)
    head, rule, *rows = pages.comparison_table().splitlines()
    names = "argotun | nginx alone, TLS | nginx as two hops | chisel | the Go system before it*"
    assert head == f"| | {names} |"
    assert {row.count("|") for row in (head, rule, *rows)} == {7}
    assert rows[0].endswith("| 0.23 ms | 0.07 ms | 0.15 ms | | 1.39 ms |")
    picture = pages.pictures()["bench.svg"]
    assert "chisel 222 MB/s" in picture
    assert "nginx, 2 hops 55 µs" in picture
    assert "9.9" not in picture


def test_a_document_without_the_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="substring"):
        pages.filled("# No marker\n", {"figures": "x"})


# The drawing


def _find(picture: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(picture).iter(f"{SVG}{kind}"))


@pytest.mark.parametrize("labels", [0, 100])
def test_bars_are_as_long_as_their_values_say(labels: int) -> None:
    bars = [Bar("a", 10.0, "10 s", OURS), Bar("b", 5.0, "5 s", OTHERS), Bar("c", 0.0, "0 s", OTHERS)]
    picture = draw("t", "b", [Panel("p", "less", bars), Panel("q", "less", bars[1:])], labels)
    lengths = [float(each.attrib["width"]) for each in _find(picture, "rect")[1:]]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.1)
    assert lengths[2] == 1.0
    assert lengths[3] == lengths[0]
    assert [each.get("class") for each in _find(picture, "rect")[1:3]] == [OURS, OTHERS]


def test_a_picture_says_in_words_what_its_bars_say() -> None:
    picture = draw("t", "b", [Panel("p", "less", [Bar("a", 1.0, "1 s", OURS)])], 90)
    assert [each.text for each in _find(picture, "desc")] == ["p: a 1 s."]
    assert {"a", "1 s", "p", "less", "t", "b"} == {each.text for each in _find(picture, "text")}


@pytest.mark.parametrize("make", [str, str.upper])
def test_a_name_with_signs_of_markup_stays_text(make: Callable[[str], str]) -> None:
    odd = make('<a href="x">&')
    picture = draw(odd, odd, [Panel(odd, odd, [Bar(odd, 1.0, odd, OURS)])], 90)
    assert [each.text for each in _find(picture, "text")] == [odd] * 5 + [odd]
