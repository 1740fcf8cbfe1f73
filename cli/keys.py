"""`flask keys`: API keys, shown once, kept as hashes."""

import click

from auth import api_keys
from cli.output import INN, KEY_NAME, Group, example, say, table
from context import now

group = Group("keys", help="API keys of those who may call the REST API.")


@group.command(
    epilog=example(
        "flask keys create accountant --scope organizations:read --scope incidents:read",
        "flask keys create operator --all",
        "flask keys create shop --all --organization 1234567890",
    )
)
@click.argument("name", type=KEY_NAME)
@click.option("--scope", "scopes", multiple=True, type=click.Choice(list(api_keys.SCOPES)), help="Repeat for several.")
@click.option("--all", "everything", is_flag=True, help="Every scope.")
@click.option(
    "--organization", type=INN, help="The INN of the only organisation that the key may see; all, if left out."
)
def create(name: str, scopes: tuple[str, ...], everything: bool, organization: str | None) -> None:
    """Create a key and print it, once."""
    if bool(scopes) == everything:
        raise click.UsageError("Give either one --scope or more, or --all.")
    if not name.strip() or not name.isprintable():
        raise click.UsageError("A key needs a name that can be printed.")
    possible = api_keys.SCOPES if organization is None else api_keys.ONE_ORGANIZATION
    if not set(scopes) <= set(possible):
        raise click.UsageError(f"A key of one organisation can only have these scopes: {', '.join(possible)}.")
    wanted = list(possible) if everything else scopes
    try:
        token = api_keys.create(name=name.strip(), scopes=wanted, organization=organization, now=now())
    except api_keys.NameTaken:
        raise click.ClickException(f"A key named {name} exists, perhaps revoked; choose another name.") from None
    say("Keep this key now; it is not shown again:", err=True)
    say(token)


@group.command("list", epilog=example("flask keys list"))
def list_() -> None:
    """List keys with their organisation and scopes, revoked ones too."""
    rows = [(row.name, row.inn or "all", row.created_at, row.revoked_at, row.scopes) for row in api_keys.listed()]
    for line in table(("NAME", "FOR", "CREATED", "REVOKED", "SCOPES"), rows):
        say(line)


@group.command(epilog=example("flask keys revoke accountant"))
@click.argument("name", type=KEY_NAME)
def revoke(name: str) -> None:
    """Stop a key from working, at once and for good."""
    if not api_keys.revoke(name, now=now()):
        raise click.ClickException(f"No working key is named {name}; see `flask keys list`.")
    say("Revoked.")
