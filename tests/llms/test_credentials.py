import asyncio
import base64
import logging
from typing import Any

import pytest
from pydantic import SecretStr

from fourcorners import init_llm
from fourcorners.errors import BackendDenied, FourCornersError, SettingsError
from fourcorners.llms.credentials import address_of, is_hugging_face
from tests.llms.faulty import DONE, answer, faulty

SECRET = "hf_verySecretIndeed"


def bearer(url: str, key: Any = None) -> str | None:
    found = address_of(url, key).authorization
    return found.get_secret_value() if found else None


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://router.huggingface.co/v1", True),
        ("https://huggingface.co", True),
        ("https://x1.eu-west-1.aws.endpoints.huggingface.cloud", True),
        ("http://router.huggingface.co/v1", False),
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
        ("https://huggingface.co.evil.example", False),
        ("https://evilhuggingface.co", False),
        ("https://someone-thing.hf.space", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_the_hub_token_goes_to_hugging_face_alone(monkeypatch: pytest.MonkeyPatch, url: str, sent: bool) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert bearer(url) == (f"Bearer {SECRET}" if sent else None)


def test_openais_key_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert bearer("https://api.openai.com/v1") == f"Bearer {SECRET}"
    for url in ("http://api.openai.com/v1", "https://api.openai.com.evil.example", "https://huggingface.co"):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        assert SECRET not in str(bearer(url))


def test_nothing_of_the_environment_goes_over_the_wire_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    with faulty(DONE) as server:
        llm = init_llm(f"tgi:{server.url}")
        llm.invoke("Hi")
        asyncio.run(llm.ainvoke("Hi"))
        assert not any("authorization" in headers for headers in server.headers)
        assert SECRET not in str(server.headers)


def test_a_key_that_was_given_is_sent_with_every_request() -> None:
    with faulty(DONE) as server:
        for key in (SECRET, SecretStr(SECRET)):
            init_llm(f"tgi:{server.url}", api_key=key).invoke("Hi")
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}


def test_a_user_in_the_url_is_basic_authorization() -> None:
    with faulty(DONE) as server:
        url = server.url.replace("//", "//ann:p%40ss@")
        llm = init_llm(f"tgi:{url}")
        llm.invoke("Hi")
        wanted = "Basic " + base64.b64encode(b"ann:p@ss").decode()
        assert {headers["authorization"] for headers in server.headers} == {wanted}
    assert "p%40ss" not in repr(llm) + str(llm)
    with pytest.raises(SettingsError, match="give one of them"):
        init_llm(f"tgi:{url}", api_key=SECRET)


def test_no_secret_shows_in_reprs_logs_and_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": f"bad token Bearer {SECRET} ({SECRET})"}
    with faulty(answer(401, echo)) as server:
        llm: Any = init_llm(f"openai:{server.url}#m", api_key=SECRET)
        with pytest.raises(BackendDenied) as caught:
            llm.invoke("Hi")
        asyncio.run(_fails(llm))
    assert "another api_key" in str(caught.value)
    told = [repr(llm), str(llm), str(llm.model_dump()), str(llm._identifying_params), repr(llm._address), caplog.text]
    told += [repr(caught.value), str(caught.value), repr(caught.value.__cause__), repr(llm._transport.__dict__)]
    assert not [text for text in told if SECRET in text]


async def _fails(llm: Any) -> None:
    with pytest.raises(BackendDenied):
        await llm.ainvoke("Hi")


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "ftp://h", "http://", "http://h:99999999", "http://h/?key=1", "http://u:hunter2@", "http://[::1"],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        init_llm(f"tgi:{url}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", 7])
def test_a_key_that_no_header_can_have_is_refused_without_telling_it(key: Any) -> None:
    with pytest.raises(FourCornersError) as caught:
        init_llm("tgi:http://localhost", api_key=key)
    assert str(key) not in str(caught.value)


def test_the_inference_providers_want_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("fourcorners.llms.credentials._hugging_face_token", lambda: None)
    with pytest.raises(BackendDenied, match="HF_TOKEN"):
        init_llm("huggingface:org/model").invoke("Hi")


def test_hugging_faces_hosts() -> None:
    assert is_hugging_face("hf.co")
    assert not is_hugging_face("notrealhf.co")
