"""`assay`: the command line. Each command is a few lines over a part of the harness that can be used alone.

Heavy imports (torch, scipy, matplotlib) are inside the commands that need them: `assay list` reads cards only.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay import HOME, ROOT, is_project, problems
from assay.card import PROFILES, Card, Profile, find_cards, load_card
from assay.consistency import unmeasured, wrong_numbers
from assay.errors import AssayError, CardError, JobError
from assay.judging import UNJUDGED, judge_all, result_of, unfinished
from assay.problems import known
from assay.project import data_sets, has_data_sets
from assay.record import Result, ended_alike, result_path
from assay.terminal import (
    COLOURS,
    err,
    out,
    print_card,
    print_cards,
    print_claim,
    print_summary,
    print_verdicts,
    say,
    steps,
)

if TYPE_CHECKING:
    from assay.nights.record import Effort


def _end(*_: Any, exit_zero: bool = False, **__: Any) -> None:
    """A command that did all that it could exits by what it could not, or by what failed."""
    if not exit_zero and (code := problems.exit_code()):
        raise typer.Exit(code)


app = typer.Typer(help="Takes what a paper claims and says whether it holds.", no_args_is_help=True,
                  pretty_exceptions_enable=False, result_callback=_end)  # fmt: skip


def _slugs(incomplete: str) -> list[str]:
    """What a shell completes."""
    return [slug for slug in find_cards(ROOT) if slug.startswith(incomplete)]


def _claims(ctx: typer.Context, incomplete: str) -> list[str]:
    path = find_cards(ROOT).get(ctx.params.get("slug") or "")
    with suppress(CardError):
        return [name for name in load_card(path).claims if name.startswith(incomplete)] if path else []
    return []


Slug = Annotated[str, typer.Argument(autocompletion=_slugs)]
Slugs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SLUG]...", help="Papers; all of them when left out.", autocompletion=_slugs),
]
ProfileOption = Annotated[Profile, typer.Option("--profile", "-p", help="How much to run.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


Unread = Callable[[Path, CardError], None]


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding shows what it can
    try:
        app(prog_name="assay")
    except AssayError as error:
        say(err, f"assay: {error}")
        raise SystemExit(2) from None


def _version(asked: bool) -> None:
    if asked:
        say(out, f"assay {metadata.version('assay')}")
        raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit 0 though a paper failed: it is named, and `assay check` fails.")
    ] = False,
) -> None:
    problems.forget()


@app.command("list")
def list_papers(as_json: Json = False) -> None:
    """The papers, from their cards."""
    cards = list(_cards().values())
    if as_json:
        _print_json([_listed(card) for card in cards])
    else:
        print_cards(cards)


@app.command()
def show(
    slug: Slug,
    claim: Annotated[
        str | None, typer.Argument(metavar="[CLAIM]", help="One claim, in full.", autocompletion=_claims)
    ] = None,
) -> None:
    """One paper: its idea, its methods, and what is known of its claims; or all that is known of one claim."""
    card = _cards([slug])[slug]
    if claim is not None:
        known([claim], card.claims, f"claim of {slug}")
        print_claim(card, claim, [v for p in PROFILES for v in judge_all({slug: card}, p) if v.claim == claim])
        return
    results: dict[str, Result] = {p: result for p in PROFILES if (result := result_of(p, slug))}
    print_card(card, results, [v for p in PROFILES if p in results for v in judge_all({slug: card}, p)])


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[DATASET]...")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Fetch what the cards name for this profile.")] = None,
) -> None:
    """Get data sets and verify them."""
    datasets = data_sets()
    wanted = list(names or [])
    if profile is not None:
        wanted += sorted({name for card in _cards().values() for name in card.datasets.of(profile)})
    if not wanted:
        raise AssayError(f"name data sets or a --profile; there are {', '.join(datasets.names())}")
    for name in wanted:
        with problems.named(name):
            files = datasets.fetch(name)
            say(out, f"{name}: {len(files)} file(s) verified")


@app.command()
def run(
    slugs: Slugs = None,
    profile: ProfileOption = "quick",
    experiments: Annotated[list[str] | None, typer.Option("--experiment", "-e", help="Only these.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Jobs at a time.")] = None,
    params: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Replicates and data sets as this file has them."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Run on a Ray cluster: what `ray start --head` prints.")
    ] = None,
) -> None:
    """Run papers; only what is missing is run. Failures are recorded, and the exit code is 1 where there are any."""
    from assay.running import machine_and_executor, run_paper, store_unread

    cards = _cards(slugs, lambda path, error: store_unread(path, profile, error))
    with machine_and_executor(cluster, profile, jobs) as (machine, execute):
        for slug, card in cards.items():
            with problems.named(f"{slug}, profile {profile}"):
                run_paper(card, profile, experiments or [], machine, execute, params)


@app.command()
def verdicts(
    slugs: Slugs = None,
    profile: ProfileOption = "quick",
    only: Annotated[
        list[str] | None, typer.Option("--verdict", metavar="WORD", help="Only these, such as `contradicted`.")
    ] = None,
    as_json: Json = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="A line a paper with its headline, and what is contradicted.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Only write what `dvc metrics show` and `dvc plots show` show.")
    ] = False,
) -> None:
    """Judge the claims by what has been measured. Exit 1 where one cannot be judged though its profile ran."""
    cards = _cards(slugs)
    found = judge_all(cards, profile)
    for v in found:
        if v.device is not None and v.reason.startswith(UNJUDGED):
            problems.failed(f"{v.paper} {v.claim}")
    if summary:
        _print_summary(cards, profile)
        return
    if metrics:
        from assay.metrics import headline_numbers, write_metrics
        from assay.plots import write_plots

        judged = [v for p in PROFILES for v in judge_all(cards, p)]
        numbers = {slug: headline_numbers(card, judged) for slug, card in cards.items()}
        write_metrics(ROOT, profile, found, slugs or find_cards(ROOT), numbers)
        write_plots(ROOT, profile, cards, {slug: r for slug in cards if (r := result_of(profile, slug)) is not None})
        return
    known(only or [], COLOURS, "verdict")
    found = [v for v in found if not only or v.verdict in only]
    if as_json:
        _print_json([v.json() for v in found])
    else:
        print_verdicts(found)


@app.command()
def report(slugs: Slugs = None) -> None:
    """Write the site, or the pages of these papers alone."""
    from assay.report.site import write_paper, write_site

    cards = _cards(slugs)
    results = {(slug, p): result for slug in cards for p in PROFILES if (result := result_of(p, slug))}
    found = [v for p in PROFILES for v in judge_all(cards, p)]
    if slugs:
        for slug, card in cards.items():
            with problems.named(f"the page of {slug}"):
                say(out, write_paper(card, results, found, ROOT / "site"))
        return
    names = data_sets().names() if has_data_sets() else []
    descriptions = {name: data_sets().info(name).description for name in names}
    sources = {
        slug: [*(result_path(ROOT, p, slug) for p in PROFILES), *card.shown_files] for slug, card in cards.items()
    }
    with steps("report", len(cards)) as advance:
        pages = write_site(cards, results, found, ROOT / "site", advance, problems.named, descriptions, sources)
    say(out, f"{pages} pages: {ROOT / 'site' / 'index.html'}")


@app.command()
def scoreboard() -> None:
    """Write results/README.md, and the table on top of README.md, from the committed results."""
    from assay.report.scoreboard import write_scoreboard

    cards = _cards()
    write_scoreboard(ROOT, cards, [v for p in ("standard", "gpu") for v in judge_all(cards, p)])


@app.command()
def pipeline(check: Annotated[bool, typer.Option("--check", help="Only say whether it is stale.")] = False) -> None:
    """Write dvc.yaml, params.json and pipelines/gpu/dvc.yaml from the cards and their experiments."""
    _pipeline(_cards(), check)


def _pipeline(cards: dict[str, Card], check: bool) -> None:
    from assay.pipeline import pipelines
    from assay.record import write_atomically

    if problems.any_named():
        raise JobError("dvc.yaml has a stage for each paper: mend the cards that are named above first")
    for name, text in pipelines(ROOT, cards).items():
        path = ROOT / name
        if not check:
            write_atomically(path, text)
        elif not path.exists() or path.read_text() != text:
            raise JobError(f"{name} is stale: run `assay pipeline` and commit it")


@app.command()
def reference(check: Annotated[bool, typer.Option("--check", help="Only say whether it is stale.")] = False) -> None:
    """Write the fields of a card into CONTRIBUTING.md, from the models that read it."""
    from assay.reference import write

    write(ROOT, check=check)


@app.command()
def new(slug: str) -> None:
    """Start a paper: a folder and its test file that pass as they are."""
    from assay.skeleton import create

    project = ROOT if Path.cwd().is_relative_to(ROOT) else Path.cwd()  # outside of any, a project begins here
    for path in create(project, slug):
        say(out, str(path.relative_to(project)))


@app.command()
def tune(slug: Slug, trials: Annotated[int, typer.Option(min=1, help="Trials of each method.")] = 20) -> None:
    """Give every method the same number of trials, by validation only, and write tuned.json."""
    from assay.tune import tune as search

    card = _cards([slug])[slug]
    say(out, f"wrote {search(ROOT, card, trials).relative_to(ROOT)}")


Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="NAME", help="A hot path, or all of a paper; again for more.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Three processes, for a first look: the alarm promises less.")]


def _effort(only: list[str] | None, quick: bool) -> Effort:
    from assay.nights.record import FULL, QUICK

    return replace(QUICK if quick else FULL, only=tuple(only or ()))


@app.command()
def night(
    path: Annotated[
        Path | None, typer.Option("--out", help="The file; beside the others of this machine if left out.")
    ] = None,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """Time the hot paths of the commit that is checked out, in fresh processes, for `assay compare`."""
    from assay.nights.record import head, in_words, night_path, record_night, save_night

    commit, effort = head(ROOT), _effort(only, quick)
    path = path or night_path(ROOT, commit, effort)
    say(err, f"{commit[:10]}: {in_words(effort)}")
    with steps(f"night {commit[:10]}", effort.processes) as advance:
        found = record_night(ROOT, commit, effort, advance)
    save_night(found, path)
    for name, reason in found.missing.items():
        say(err, f"{name}: {reason}")
    say(out, f"{len(found.times)} hot paths, {effort.processes} processes: {path}")


@app.command()
def compare(
    old: Annotated[str, typer.Argument(metavar="A", help="A night's file, or a revision, which is timed.")],
    new: Annotated[str, typer.Argument(metavar="B", help="The same, for what may be slower.")],
    only: Only = None,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """What got slower from A to B. Exit 1 for what is confirmed, 2 for what could not be or has no usable time."""
    from assay.nights.compare import compare as compare_nights
    from assay.nights.record import find_night
    from assay.nights.show import print_comparison, print_screened

    effort, timed = _effort(only, quick), []
    for text in (old, new):
        with steps(f"night {text}", effort.processes) as advance:
            timed.append(find_night(ROOT, text, effort, advance, lambda said: say(err, said)))
    with steps("confirm", effort.replicates) as advance:
        found = compare_nights(ROOT, timed[0], timed[1], effort, advance, lambda known: print_screened(known, effort))
    if as_json:
        _print_json(found.json())
    else:
        print_comparison(found)
    if found.regression or found.unconfirmed or found.unusable:
        raise typer.Exit(1 if found.regression else 2)


@app.command()
def nights(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Files of nights.")],
    as_json: Json = False,
) -> None:
    """The history of each hot path over the nights in a folder, and the nights from which it was slower or faster."""
    from assay.nights.history import histories, read_nights
    from assay.nights.show import print_histories

    found = histories(read_nights(folder))
    if as_json:
        _print_json([history.json() for history in found])
    else:
        print_histories(found)


@app.command()
def doctor(calibrate: Annotated[bool, typer.Option("--calibrate", help="Simulate the error rates.")] = False) -> None:
    """What this machine can run and measure; with --calibrate, whether the verdicts keep their error rates."""
    from assay.doctor import calibration, examine

    rows, healthy = calibration() if calibrate else examine(ROOT)
    for row in rows:
        say(out, row)
    if not healthy:
        raise SystemExit(1)


@app.command()
def check(
    slugs: Slugs = None,
    profile: ProfileOption = "quick",
    summary: Annotated[bool, typer.Option("--summary", help="Print the summary of `assay verdicts` first.")] = False,
) -> None:
    """Exit 1 if dvc.yaml is stale, a job failed or never ran, or a card names what nothing measured; 2 for damage."""
    cards = _cards(slugs)
    if summary:
        _print_summary(cards, profile)
    if not slugs:
        with problems.named("pipelines"):
            if (ROOT / "dvc.yaml").exists() or ROOT == HOME:
                _pipeline(cards, check=True)
    broken = 0
    for slug, card in cards.items():
        jobs = unfinished(card, profile)
        if jobs is None and result_path(ROOT, profile, slug).exists():
            continue  # damaged, and named
        if jobs is None:
            say(err, f"{slug}: no result in profile {profile}; run `assay run {slug} --profile {profile}`")
            broken += 1
            continue
        for verdict in judge_all({slug: card}, profile):
            if verdict.reason.startswith(UNJUDGED):
                say(err, f"{slug}: {verdict.reason}")
                broken += 1
        result = None if profile == "quick" else result_of(profile, slug)  # a small run may leave out a method
        if result is not None:
            for problem in [*wrong_numbers(card, profile, result.replicates), *unmeasured(card, [result])]:
                say(err, f"{card.path.relative_to(ROOT)}: {problem}")
                broken += 1
        for job, seeds in ended_alike(jobs):
            name = " ".join(filter(None, (job.experiment, job.dataset, seeds)))
            say(err, f"{slug}: {name}: {job.status}: {job.reason}")
            if job.traceback:
                say(err, job.traceback)
            broken += 1
    if broken:
        raise SystemExit(1)


def _print_summary(cards: dict[str, Card], profile: Profile) -> None:
    from assay.report.view import claim_views

    found = {p: judge_all(cards, p) for p in PROFILES}
    print_summary(profile, found[profile], claim_views(cards.values(), [v for p in PROFILES for v in found[p]]))


def _cards(slugs: list[str] | None = None, unread: Unread | None = None) -> dict[str, Card]:
    """The cards that can be read. One that cannot is named, and handed to `unread`; an error where none of them can."""
    paths = find_cards(ROOT)
    if not is_project(ROOT):
        raise AssayError(f"no paper in {ROOT} or above it; go to a project, or begin one here: assay new SLUG")
    known(slugs or [], paths, "paper")
    wrong, cards = [], {}
    for slug in slugs or paths:
        try:
            cards[slug] = load_card(paths[slug])
        except CardError as error:
            wrong.append(str(error))
            if unread is not None:
                unread(paths[slug], error)
    if wrong and not cards and unread is None:
        raise CardError("\n".join(wrong))
    for problem in wrong:
        problems.name(problem)
    return cards


def _print_json(value: Any) -> None:
    """JSON and nothing else, whatever the terminal can show."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _listed(card: Card) -> dict[str, Any]:
    return {
        "paper": card.slug,
        "title": card.title,
        "arxiv": card.arxiv,
        "methods": [{"name": name, "role": role} for name, role in card.methods.items()],
        "experiments": card.experiments(),
        "claims": list(card.claims),
        "of": {claim_id: claim.of for claim_id, claim in card.claims.items()},
        "datasets": card.datasets.names(),
        "data": card.data,
    }  # fmt: skip
