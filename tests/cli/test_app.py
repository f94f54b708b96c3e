"""The composition root: what settings become, and what it refuses."""

from pathlib import Path

import pytest

from durably import SettingsError, app
from durably.instances import OnFailure
from durably.settings import Settings

SECRET = "whsec_" + "c2VjcmV0" * 6


async def test_settings_reach_the_instance_service(tmp_path: Path) -> None:
    """Every setting of the instance service is handed over, none is left at its default."""
    settings = Settings(
        store=f"sqlite:///{tmp_path}/jobs.db",
        novita_api_key="key",
        novita_api_base_url="http://127.0.0.1:1/api",
        novita_timeout=1.5,
        poll_interval=2.5,
        max_wait_time=3.5,
        max_retry_attempts=7,
        retry_base_delay=4.5,
        reconcile_interval=5.5,
        on_failure="stop",
        webhook_secret=SECRET,
        webhook_allow=("10.0.0.0/8",),
    )
    async with app.open_queue(settings) as queue, app.instance_service(settings, queue) as service:
        used = service.settings
        assert (used.poll_interval, used.max_wait_time, used.novita_timeout) == (2.5, 3.5, 1.5)
        assert (used.retry_base_delay, used.reconcile_interval) == (4.5, 5.5)
        assert (used.max_retry_attempts, used.on_failure) == (7, OnFailure.STOP)
        accepted = await service.create_instance(
            {
                "name": "one",
                "productName": "RTX 4090 24GB",
                "templateId": "bare",
                "webhookUrl": "http://10.1.2.3/hook",
            }
        )
        assert await service.get(accepted.id) is not None


async def test_the_instance_service_needs_a_key(tmp_path: Path) -> None:
    """Without NOVITA_API_KEY nothing can be rented, which is said at once."""
    settings = Settings(store=f"sqlite:///{tmp_path}/jobs.db")
    async with app.open_queue(settings) as queue:
        with pytest.raises(SettingsError, match="NOVITA_API_KEY is not set"):
            async with app.instance_service(settings, queue):
                pass


async def test_settings_reach_the_queue(tmp_path: Path) -> None:
    """Lease and concurrency are those of the worker that registers."""
    settings = Settings(store=f"sqlite:///{tmp_path}/jobs.db", lease=12.5)
    async with app.open_queue(settings, concurrency=4) as queue:
        await queue.start_processing()
        [worker] = await queue.workers()
    assert (worker.info.lease_s, worker.info.concurrency) == (12.5, 4)


def test_settings_come_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment and the working directory of the process are what is read."""
    (tmp_path / "durably.toml").write_text("lease = 5")
    monkeypatch.setenv("DURABLY_RETENTION", "6")
    found = app.settings_for_clients("sqlite:///jobs.db")
    assert (found.lease, found.retention, found.store) == (5.0, 6.0, "sqlite:///jobs.db")


def test_clients_do_not_judge_the_instance_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is malformed stops who would sign with it, not who lists jobs."""
    monkeypatch.setenv("DURABLY_WEBHOOK_SECRET", "hush")
    assert app.settings_for_clients().webhook_secret == "hush"
    with pytest.raises(SettingsError, match="DURABLY_WEBHOOK_SECRET") as caught:
        app.settings_for_instances()
    assert "hush" not in str(caught.value)
