"""`whyrank connect ENGINE`: print, apply or undo an engine's configuration for a door.

Exit codes are those of `whyrank`: 0 done; 1 the engine is down or refuses, or the door cannot work on it (a sentence
says why, and which can); 2 the command line is wrong.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from whyrank import places
from whyrank.cli import AsJson, EngineUrl, Home, reported
from whyrank.connect import printing
from whyrank.connect.applying import ApplyError, Outcome, apply, take_back
from whyrank.connect.assumed import AssumedEngine, assumed_survey
from whyrank.connect.doors import DOORS, best, custom, fitting, ml_commons
from whyrank.connect.records import Records
from whyrank.connect.steps import Door, Plan, Request, secrets_of
from whyrank.connect.survey import Survey, survey
from whyrank.connect.wish import Wish, is_loopback, read_url
from whyrank.console import err, out
from whyrank.engines import Engine, EngineKind, connect
from whyrank.engines.policies import PolicyStore
from whyrank.errors import BadRequestError, WhyRankError
from whyrank.settings import Settings
from whyrank.types import Mode

DEFAULT_HOME = Path(".whyrank")
_MARKS = {
    Outcome.DONE: "[green]done[/]",
    Outcome.FAILED: "[red]failed[/]",
    Outcome.UNDONE: "[yellow]undone[/]",
    Outcome.GONE: "[dim]was gone[/]",
    Outcome.LEFT: "[yellow]left[/]",
    Outcome.STUCK: "[red]not undone[/]",
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Form(StrEnum):
    """How a plan is printed."""

    CURL = "curl"
    DEV_TOOLS = "dev-tools"


class UnfitError(WhyRankError):
    """The door cannot work on the engine at hand; the message says why, and which can."""

    status = 409


@app.command()
def main(
    kind: Annotated[
        EngineKind, typer.Argument(metavar="ENGINE", help="opensearch or elasticsearch", show_default=False)
    ],
    door: Annotated[
        Door | None, typer.Option(help="How searches reach WhyRank [default: the best that this engine can have].")
    ] = None,
    index: Annotated[str | None, typer.Option(help="Index or alias, as searches name it.")] = None,
    fields: Annotated[
        str | None, typer.Option(help="Fields whose text the model reads, in this order [default: the policy's].")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, max=200, help="How many top hits are reranked [default: the policy's].")
    ] = None,
    deadline_ms: Annotated[
        int | None, typer.Option(min=0, max=60_000, help="How long a search may be delayed [default: the policy's].")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="`reason` or `label` [default: the policy's].")] = None,
    sidecar_url: Annotated[
        str | None,
        typer.Option(help="Address of the sidecar as the engine reaches it [default: that of the one that is up]."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the pipeline or endpoint [default: the door's own].")
    ] = None,
    explanations: Annotated[
        bool, typer.Option("--explanations", help="ml-commons: explanations on hits, read from one field.")
    ] = False,
    key_variable: Annotated[
        str, typer.Option(help="Variable of the environment with the key that the engine sends to the sidecar.")
    ] = "WHYRANK_KEY",
    form: Annotated[Form, typer.Option("--as", help="How to print: for a shell, or for Dev Tools.")] = Form.CURL,
    do_apply: Annotated[bool, typer.Option("--apply", help="Carry it out, and undo it should a step fail.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what --apply did for this door.")] = False,
    assume: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Print for an engine of this version, without asking it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    engine_url: EngineUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print the engine's configuration for a door, or --apply it, or --undo that.

    Doors: plugin (OpenSearch with our plugin), proxy (any engine), ml-commons (OpenSearch), custom (Elasticsearch
    with an Enterprise licence). No secret is printed.
    """
    if do_apply and undo:
        raise typer.BadParameter("either --apply or --undo", param_hint="--undo")
    if assume is not None and (do_apply or undo):
        raise typer.BadParameter("an engine that is not asked can only be printed for", param_hint="--assume")
    with reported():
        found = places.find(home, engine_url, sidecar_url)
        wish = Wish(
            sidecar_url=read_url(found.sidecar_url),
            index=index,
            fields=tuple(part.strip() for part in (fields or "").split(",") if part.strip()),
            window=window,
            deadline_ms=deadline_ms,
            mode=mode,
            name=name,
            explanations=explanations,
            key_variable=key_variable,
            engine_url=found.settings.engine_url,
            rerank_deadline_ms=found.settings.rerank_deadline_ms,
        )
        run = _Connect(found.settings, kind, door, wish, form, as_json)
        if assume is not None:
            asyncio.run(run.show_assumed(assume))
        elif do_apply:
            asyncio.run(run.apply())
        elif undo:
            asyncio.run(run.undo())
        else:
            asyncio.run(run.show())


@dataclass
class _Connect:
    """One run of the command."""

    _settings: Settings
    _kind: EngineKind
    _door: Door | None
    _wish: Wish
    _form: Form
    _as_json: bool
    _told: list[dict[str, str]] = field(default_factory=list)

    async def show(self) -> None:
        """Print the plan."""
        async with self._engine() as engine:
            self._print(await self._plan(engine, *await self._choose(engine)))

    async def show_assumed(self, number: str) -> None:
        """Print the plan for an engine that is not asked."""
        known = assumed_survey(self._kind, number)
        door = self._door or best(known)
        self._check(door, known)
        plan = await DOORS[door].plan(AssumedEngine(), known, self._wish)
        note = f"Written without asking the engine, as for an empty {known.name}: what it has already is not kept."
        self._print(msgspec.structs.replace(plan, notes=(*plan.notes, note)))

    async def apply(self) -> None:
        """Carry the plan out. Raises ApplyError."""
        async with self._engine() as engine:
            known, door = await self._choose(engine)
            target = self._target(door)
            if await Records(engine).load(door, target) is not None:
                raise UnfitError(f"{door.value} is applied to {target!r} already: --undo that first")
            plan = await self._plan(engine, known, door)
            try:
                if plan.steps:
                    await apply(engine, plan, target, _secrets(plan), self._tell)
            except ApplyError as error:
                self._say_left(error.left)
                raise
            finally:
                self._finish()
        self._say_notes(plan)

    async def undo(self) -> None:
        """Take back what was applied. Raises WhyRankError where something could not be."""
        async with self._engine() as engine:
            door = self._door or best(await self._survey(engine))
            target = self._target(door)
            records = Records(engine)
            record = await records.load(door, target)
            if record is None:
                raise UnfitError(f"nothing was applied for {door.value} to {target!r}: there is nothing to undo")
            left = await take_back(engine, record.undo, self._tell)
            self._finish()
            if left:
                kept = tuple(undo for undo in record.undo if undo.request in left)
                await records.save(msgspec.structs.replace(record, undo=kept))
                self._say_left(left)
                raise WhyRankError(f"{len(left)} of {len(record.undo)} changes could not be undone")
            await records.forget(record)

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[Engine]:
        engine = await connect(self._settings)
        try:
            yield engine
        finally:
            await engine.close()

    async def _survey(self, engine: Engine) -> Survey:
        known = await survey(engine)
        if known.kind is not self._kind:
            where = printing.without_user(self._settings.engine_url)
            raise UnfitError(f"{where} is {known.name}: whyrank connect {known.kind}")
        return known

    async def _choose(self, engine: Engine) -> tuple[Survey, Door]:
        """What the engine has, and the door. Raises UnfitError."""
        known = await self._survey(engine)
        door = self._door or best(known)
        self._check(door, known)
        return known, door

    async def _plan(self, engine: Engine, known: Survey, door: Door) -> Plan:
        policy = None if self._wish.index is None else await PolicyStore(engine).get(self._wish.index)
        self._wish = msgspec.structs.replace(self._wish, policy=policy)
        plan = await DOORS[door].plan(engine, known, self._wish)
        if plan.steps and is_loopback(self._wish.sidecar_url) and not is_loopback(self._settings.engine_url):
            note = f"{self._wish.sidecar_url} is the engine's own machine to the engine: --sidecar-url names another."
            plan = msgspec.structs.replace(plan, notes=(*plan.notes, note))
        return plan

    @staticmethod
    def _check(door: Door, known: Survey) -> None:
        reason = DOORS[door].unfit(known)
        if reason is not None:
            able = ", ".join(other.value for other in fitting(known))
            raise UnfitError(f"{door.value} cannot work here: {reason}. What can: {able}")

    def _target(self, door: Door) -> str:
        """What the record of this door is kept under."""
        if door is Door.PLUGIN:
            return self._wish.needed_index()
        if door is Door.ML_COMMONS:
            return ml_commons.pipeline_name(self._wish)
        return self._wish.name or custom.NAME

    def _print(self, plan: Plan) -> None:
        if self._as_json:
            text = printing.as_json(plan)
        elif self._form is Form.CURL:
            text = printing.as_curl(plan, self._address())
        else:
            text = printing.as_dev_tools(plan)
        sys.stdout.write(text)

    def _address(self) -> printing.Address:
        settings = self._settings
        return printing.Address(settings.engine_url, settings.engine_user is not None, settings.engine_ca)

    def _tell(self, title: str, outcome: Outcome, detail: str) -> None:
        if self._as_json:
            self._told.append({"title": title, "outcome": outcome.value, "detail": detail})
        else:
            more = f" [dim]({escape(detail)})[/]" if detail else ""
            out.print(f"{_MARKS[outcome]} {escape(title)}{more}", soft_wrap=True)

    def _finish(self) -> None:
        if self._as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(self._told)).decode() + "\n")

    def _say_notes(self, plan: Plan) -> None:
        if not self._as_json:
            for note in plan.notes:
                out.print(f"[dim]-[/] {escape(note)}", soft_wrap=True)

    def _say_left(self, left: Sequence[Request]) -> None:
        if left:
            err.print("[red]still to be undone by hand:[/]")
            sys.stderr.write(printing.undo_as_curl(left, self._address()))


def _secrets(plan: Plan) -> dict[str, str]:
    """Values of the variables that the plan names. Raises BadRequestError for one that is not set."""
    secrets = {}
    for variable in sorted(secrets_of(plan)):
        value = os.environ.get(variable, "")
        if not value:
            raise BadRequestError(
                "key_variable",
                f"${variable} is not set: it holds the key that the engine sends to the sidecar as a bearer token "
                "(any value, while the sidecar asks for none)",
            )
        secrets[variable] = value
    return secrets
