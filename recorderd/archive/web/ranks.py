"""Who may manage whose account over HTTP.

Rule: nobody makes, changes or opens an account that reaches further than their own, nor a token that may more
than the one they use: else an administrator of one site would soon be one of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from recorderd.archive.accounts import Reaching
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk
from recorderd.archive.web.problems import Problem
from recorderd.policy.access import Action, Role, reaches_as_far


def check_reach(
    desk: Desk, identity: Identity, role: Role, reaching: Reaching, *, second_right: bool
) -> None:
    """See that somebody may give this role and reach.

    Errors: Problem.
    """
    groups = desk.accounts.groups()
    members = (name for group in reaching.groups for _, name in groups.get(group, []))
    if not reaches_as_far(
        identity.viewer,
        places=chain(reaching.extensions, members),
        recorders=reaching.recorders,
        second_right=second_right,
        role=role,
    ):
        raise Problem(403, "refused", "That reaches further than your own account.")


def check_groups(desk: Desk, identity: Identity, names: Iterable[str]) -> None:
    """See that somebody who may not put everybody into a group gives none that is yet to be made.

    Errors: Problem.
    """
    if not identity.viewer.all_recorders and not set(names) <= desk.accounts.groups().keys():
        raise Problem(403, "refused", "There is no such group; who makes it may reach further than you.")


def check_account(desk: Desk, identity: Identity, name: str) -> None:
    """See that somebody may manage an account as it is now.

    Errors: Problem; AccountUnknown.
    """
    account = desk.accounts.find(name)
    reaching = Reaching(extensions=account.extensions, groups=account.groups, recorders=account.recorders)
    check_reach(desk, identity, account.role, reaching, second_right=account.second_right)


def check_members(desk: Desk, identity: Identity, group: str, members: Iterable[str]) -> None:
    """See that somebody may make a group of these, in place of those that are in it.

    Errors: Problem.
    """
    present = (name for _, name in desk.accounts.groups().get(group, []))
    if not reaches_as_far(identity.viewer, places=chain(members, present), recorders=(), second_right=False):
        raise Problem(403, "refused", "That reaches further than your own account.")


def check_scopes(identity: Identity, scopes: Iterable[Action]) -> None:
    """See that somebody may give a token these scopes.

    Errors: Problem.
    """
    if not set(scopes) <= identity.viewer.scopes:
        raise Problem(403, "refused", "A token may no more than the one that makes it.")
