import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from mem0stack.lib.commands import ServiceCommand
from memories import embedding_spaces, providers
from memories.embedding_spaces import Space
from memories.models import Purpose, SpaceState
from memories.providers import Provider, ProviderAway

# Tries after the first failure, with pauses between them: about a minute, then somebody should look.
_PAUSES_S = (1, 2, 4, 8, 15, 30)
# What writers leave behind at such a pace that nobody ever ends: the worker goes on with it after the switch.
_ROUNDS = 20
# What a text of so many characters costs in tokens, roughly, in English.
_CHARACTERS_PER_TOKEN = 4
_MENDS = {
    "refused": "Is it running, and is the address right?",
    "timeout": "Is it overloaded? A longer EMBEDDER_TIMEOUT_MS may help.",
    "unauthorized": "Enter a key that it accepts.",
    "rejected": "Does the model exist, and does it give as many dimensions?",
    "wrong_dimensions": "Say how many the model gives with --dimensions, and in the provider settings.",
    "rate_limited": "Wait, or set how many requests a minute it allows.",
}


class Command(ServiceCommand):
    help = (
        "Embed every memory with the configured embedder, or with another model of it, while the service goes on with"
        " what it has; then switch searches over. Can be stopped and run again at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", help="default: the model of the provider settings")
        parser.add_argument("--dimensions", type=int, help="default: those of the provider settings")
        parser.add_argument("--no-switch", dest="switch", action="store_false", help="build only; searches stay")
        parser.add_argument("--switch", action="store_true", help="let searches use it once it is complete (default)")
        parser.add_argument("--drop-old", action="store_true", help="then remove the vectors of other models")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be sent")
        parser.add_argument("--status", action="store_true", help="only say what there is")
        parser.set_defaults(switch=True)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["status"]:
            self._show()
            return
        provider = _provider()
        model, dimensions = options["model"] or provider.model, options["dimensions"] or provider.dimensions
        if not 1 <= dimensions <= providers.MAX_DIMENSIONS:
            raise CommandError(f"--dimensions is 1 to {providers.MAX_DIMENSIONS}.")
        if options["dry_run"]:
            self._estimate(provider, model, dimensions)
            return
        try:
            # Before anything is begun: does it answer, and as it should?
            provider.embed(["memory"], model=model, dimensions=dimensions)
        except ProviderAway as away:
            raise _away(away, "Nothing was changed.") from away
        space, is_active = embedding_spaces.begin(provider.kind, model, dimensions)
        try:
            self._build(space, provider)
        except KeyboardInterrupt:
            raise CommandError("Stopped. Run it again to go on from here.", returncode=130) from None
        if is_active:
            self.stdout.write(f"Searches use {_name(space)}, and it is complete.")
        elif options["switch"]:
            embedding_spaces.switch(space)
            self.stdout.write(f"Complete. Searches use {_name(space)} from now on.")
            if (provider.model, provider.dimensions) != (model, dimensions):
                self.stdout.write("The provider settings still name another model: set it there, too.")
        else:
            self.stdout.write(f"{_name(space)} is complete. Searches go on as before: run it again to switch.")
        if options["drop_old"]:
            # Searches that know of the switch a second late still ask the old one.
            time.sleep(2 * embedding_spaces.GOOD_FOR_S)
            self.stdout.write(f"{embedding_spaces.drop_retired()} old vectors are gone.")

    def _build(self, space: Space, provider: Provider) -> None:
        # By then every writer knows of the space.
        time.sleep(1.5 * embedding_spaces.GOOD_FOR_S)
        embedding_spaces.note_missing(space)
        for _ in range(_ROUNDS):
            self._fill(space, provider)
            # What was written before the worker knew of this space, or came in meanwhile.
            if not embedding_spaces.note_missing(space) and not embedding_spaces.count_waiting(space):
                return

    def _fill(self, space: Space, provider: Provider) -> None:
        waiting = embedding_spaces.count_waiting(space)
        if not waiting:
            return
        failures = 0
        with self.progress(f"Embedding for {space.model}", waiting) as advance, _alone(space):
            while True:
                try:
                    filled = embedding_spaces.fill(space, provider)
                except ProviderAway as away:
                    failures += away.reason != "rate_limited"
                    if failures > len(_PAUSES_S):
                        raise _away(away, "What is done is kept: run it again to go on from here.") from away
                    time.sleep(away.retry_after_s or _PAUSES_S[max(0, failures - 1)])
                    continue
                failures = 0
                if not filled.taken:
                    return
                advance(filled.embedded + filled.refused)

    def _estimate(self, provider: Provider, model: str, dimensions: int) -> None:
        size = embedding_spaces.size_of_work()
        requests = -(-size["memories"] // provider.batch_size)
        tokens = size["characters"] // _CHARACTERS_PER_TOKEN
        self.stdout.write(
            f"{size['memories']} memories, about {tokens} tokens in {requests} requests or more, would be sent to"
            f" {model} ({dimensions} dimensions). What it has already is not sent again."
        )

    def _show(self) -> None:
        found = embedding_spaces.coverage()
        for one in found:
            refused = f", {one.refused} refused by the provider" if one.refused else ""
            self.stdout.write(f"{one.state}: {_name(one.space)}: {one.embedded} embedded, {one.missing} not{refused}.")
        if not any(one.state == SpaceState.ACTIVE for one in found):
            self.stdout.write("Searches use the local embedder alone.")


def _provider() -> Provider:
    provider = providers.configured(Purpose.EMBEDDER)
    if provider is None:
        raise CommandError(
            "No embedder is configured. Set EMBEDDER_KIND and what belongs to it for this command and the service, or"
            " make a row of provider settings in the admin; docs/embeddings.md says how.",
            returncode=2,
        )
    if provider.trouble:
        raise CommandError(provider.trouble, returncode=2)
    return provider


@contextmanager
def _alone(space: Space) -> Iterator[None]:
    """While nobody else fills this space: a worker ends soon, another `reembed` does not."""
    for _ in range(60):
        with embedding_spaces.alone(space) as is_alone:
            if is_alone:
                yield
                return
        time.sleep(1)
    raise CommandError("Another reembed is at work on the same space. Let it end.")


def _away(away: ProviderAway, what: str) -> CommandError:
    mend = _MENDS.get(away.reason, "")
    return CommandError(f"The embedder gives no answer that can be used ({away.reason}: {away}). {mend} {what}")


def _name(space: Space) -> str:
    return f"{space.model} ({space.kind}, {space.dimensions} dimensions)"
