"""An address may come from a Prefect secret, and sessions of flow runs take slots of the connection's limit."""

import asyncio

import pytest
from prefect import flow
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

from ops.deploy import CONNECTION_SESSIONS, connections, ensure_connection_limit
from tasks.source.connections import Database
from tasks.source.kinds import open_tables
from tasks.source.prefect_access import limit_name, slot
from tests.tasks.source.databases import database_model, load_parcels, new_database

pytestmark = pytest.mark.usefixtures("prefect_server")


async def limit(name: str = "warehouse"):
    async with get_client() as client:
        await ensure_connection_limit(client, name)
        return await client.read_global_concurrency_limit_by_name(limit_name(name))


def test_an_address_comes_from_a_secret_block(tiny, tmp_path):
    with new_database("sqlite", tmp_path) as address:
        load_parcels(address)
        Secret(value=address).save("evergreen-connection-warehouse", overwrite=True)
        try:
            (table,) = open_tables(database_model(tiny, address)).values()
            assert table.span() is not None
        finally:
            Secret.delete("evergreen-connection-warehouse")


def test_a_session_of_a_flow_run_takes_a_slot_and_gives_it_back():
    async def active() -> int:
        return (await limit()).active_slots

    @flow
    def look() -> tuple[int, int]:
        with slot("warehouse"):
            during = asyncio.run(active())
        return during, asyncio.run(active())

    assert asyncio.run(limit()).limit == CONNECTION_SESSIONS
    assert look() == (1, 0)
    with slot("warehouse"):
        assert asyncio.run(active()) == 0


def test_a_limit_that_a_person_has_changed_stays():
    async def change() -> int:
        await limit("other")
        async with get_client() as client:
            await client.update_global_concurrency_limit(limit_name("other"), GlobalConcurrencyLimitUpdate(limit=1))
        return (await limit("other")).limit

    assert asyncio.run(change()) == 1


def test_a_deployment_finds_the_connections_of_all_models(tiny):
    assert connections() == []
    model = database_model(tiny, "postgresql")
    assert connections() == ["warehouse"]
    assert Database.of(model.config, model.config.source.tables["parcels"]).variable == "EVERGREEN_CONNECTION_WAREHOUSE"
