"""Who somebody is to the API, and how they come to a token."""

from typing import Any

from attrs import field, frozen

from opendesk.simulators.api_client import Api


@frozen
class Person:
    """An account to be. The password is a simulator's, and worth nothing."""

    name: str
    email: str
    password: str = field(repr=False)

    @classmethod
    def named(cls, name: str) -> "Person":
        return cls(name, f"{name}@example.org", f"{name}-of-the-demo")


@frozen
class Account:
    """A person with a token."""

    api: Api
    user_id: str
    host_id: str | None

    @classmethod
    def of(cls, api: Api, welcome: dict[str, Any]) -> "Account":
        return cls(api.acting_as(welcome["token"]), welcome["userId"], welcome["hostProfileId"])


async def register(api: Api, person: Person, role: str) -> Account:
    body = {"email": person.email, "password": person.password, "username": person.name, "role": role}
    return Account.of(api, (await api.post("/auth/register", body)).body)


async def log_in(api: Api, person: Person) -> Account:
    body = {"email": person.email, "password": person.password}
    return Account.of(api, (await api.post("/auth/login", body)).body)
