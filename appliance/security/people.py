"""People who sign in to the console: a login, a role, a password that is kept as Argon2id (RFC 9106)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Busy, Conflict, InvalidInput, NotAuthenticated, NotFound
from appliance.events import Event
from appliance.security.audit import append_entry
from appliance.security.throttle import Throttle

MEMORY_KIB = 19_456  # with two passes and one lane: OWASP's floor, small beside the daemon
PASSWORD_LENGTHS = (12, 256)  # characters
SESSION_S = 12 * 3600
MOST_SESSIONS = 1_000  # kept in memory; a restart signs everybody out


@dataclass(frozen=True)
class Person:
    """Somebody with a login."""

    tenant: str
    id: str
    login: str  # unique on the box
    name: str
    role: str
    password: str  # the Argon2id string
    created_at: str
    disabled_at: str | None = None

    def as_json(self) -> JsonDict:
        return {key: value for key, value in asdict(self).items() if key != "password"}


@dataclass(frozen=True)
class Session:
    """A person who has signed in, until `ends_at` (monotonic seconds)."""

    person: str
    ends_at: float


class PersonStore:
    """All people and who of them is signed in. Only this process writes them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, Person] = {}
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # digest of the cookie -> session
        self._hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)
        self._hashing = asyncio.Lock()  # one at a time: guesses must not eat the box
        self._nobody = self._hasher.hash(secrets.token_hex())  # unknown logins take as long as known ones
        self.throttle = Throttle()

    async def load(self) -> None:
        known = await self._db.read(lambda db: [Person(**dict(row)) for row in db.execute("SELECT * FROM people")])
        self._known = {person.id: person for person in known}

    @property
    def are_there(self) -> bool:
        return any(person.disabled_at is None for person in self._known.values())

    def get(self, tenant: str, person_id: str) -> Person:
        """Raises NotFound("person_not_found")."""
        person = self._known.get(person_id)
        if person is None or person.tenant != tenant:
            raise NotFound("person_not_found", person=person_id[:80])
        return person

    def list(self, tenant: str) -> list[Person]:
        return sorted((one for one in self._known.values() if one.tenant == tenant), key=lambda one: one.login)

    async def add(self, tenant: str, login: str, name: str, role: str, password: str) -> Person:
        """Raises Conflict("login_taken"), InvalidInput("password_unfit")."""
        if any(person.login == login for person in self._known.values()):
            raise Conflict("login_taken", login=login)
        event = Event(tenant, "person.add", details={"role": role})
        hashed = await self._hash(password)
        person = Person(tenant, f"per_{secrets.token_hex(8)}", login, name or login, role, hashed, utc_now())

        def insert(db: sqlite3.Connection) -> None:
            insert_row(db, "people", asdict(person))
            append_entry(db, replace(event, subject=person.id))

        try:
            await self._db.write(insert, durable=True)
        except sqlite3.IntegrityError as error:
            raise Conflict("login_taken", login=login) from error
        self._known[person.id] = person
        return person

    async def change(
        self, tenant: str, person_id: str, *, role: str | None = None, password: str | None = None
    ) -> Person:
        """Another role or password; who is signed in as this person is signed out. Raises NotFound, InvalidInput."""
        person = self.get(tenant, person_id)
        hashed = await self._hash(password) if password is not None else person.password
        return await self._update(replace(person, role=role or person.role, password=hashed), "person.change")

    async def disable(self, tenant: str, person_id: str) -> Person:
        """No more signing in; the row stays, because the audit log names it. Idempotent. Raises NotFound."""
        person = self.get(tenant, person_id)
        return await self._update(replace(person, disabled_at=person.disabled_at or utc_now()), "person.disable")

    async def sign_in(self, login: str, password: str, address: str) -> tuple[Person, str]:
        """The person and a session cookie.

        Raises Busy("sign_in_throttled") before the password is looked at, NotAuthenticated("sign_in_wrong").
        """
        keys = (f"address {address}", f"login {login}")
        wait_s = max(self.throttle.wait_s(key) for key in keys)
        if wait_s > 0 or self._hashing.locked():
            raise Busy("sign_in_throttled", scope="client", retry_after_s=max(1, round(wait_s)))
        person = next((one for one in self._known.values() if one.login == login and one.disabled_at is None), None)
        async with self._hashing:
            is_right = await asyncio.to_thread(self._verify, person.password if person else self._nobody, password)
        if person is None or not is_right:
            for key in keys:
                self.throttle.failed(key)
            raise NotAuthenticated("sign_in_wrong")
        for key in keys:
            self.throttle.succeeded(key)
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = Session(person.id, time.monotonic() + SESSION_S)
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return person, cookie

    def wrong_guesses(self, address: str) -> int:
        """How many tries to sign in from this address were wrong lately."""
        return self.throttle.count(f"address {address}")

    def signed_in(self, cookie: str) -> Person | None:
        """The person whose session this is; None when it has ended."""
        session = self._sessions.get(_digest(cookie))
        if session is None or session.ends_at < time.monotonic():
            return None
        person = self._known.get(session.person)
        return person if person is not None and person.disabled_at is None else None

    def sign_out(self, cookie: str) -> None:
        self._sessions.pop(_digest(cookie), None)

    async def _update(self, person: Person, action: str) -> Person:
        event = Event(person.tenant, action, subject=person.id, details={"role": person.role})

        def update(db: sqlite3.Connection) -> None:
            row = (person.role, person.password, person.disabled_at, person.id)
            db.execute("UPDATE people SET role = ?, password = ?, disabled_at = ? WHERE id = ?", row)
            append_entry(db, event)

        await self._db.write(update, durable=True)
        self._known[person.id] = person
        for digest in [key for key, session in self._sessions.items() if session.person == person.id]:
            del self._sessions[digest]
        return person

    async def _hash(self, password: str) -> str:
        shortest, longest = PASSWORD_LENGTHS
        if not shortest <= len(password) <= longest:
            raise InvalidInput("password_unfit", characters=len(password), shortest=shortest, longest=longest)
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, password)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
