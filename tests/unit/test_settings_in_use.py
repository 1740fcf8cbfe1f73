"""Settings are tried on those who will use them: drivers, TLS, the broker's client, the signing code."""

import subprocess
from pathlib import Path

import certifi
import pytest

import banks
from app import create_app, problems
from config import Config, ConfigError
from tests.factories import SECRET, SECRETS_KEY

SETTINGS = {"BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}


def found(**environ: str) -> list[str]:
    try:
        Config.from_env({**SETTINGS, **environ}, problems)
    except ConfigError as error:
        return error.problems
    return []


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """Return a folder with a certificate of our own and its key."""
    folder = tmp_path_factory.mktemp("own")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=kopeck -days 1"
    subprocess.run(
        command.split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (folder / "key.pem").chmod(0o600)
    (folder / "text.pem").write_text("no certificate")
    return folder


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("postgresql://u:pass-word@h/k?charset=utf8mb4", "charset"),
        ("postgresql://h/k?ssl_ca=/x", "ssl_ca"),
        ("postgresql://h/k?sslmode=requir", "sslmode"),
        ("postgresql://h/k?sslmode=VERIFY_IDENTITY", "sslmode"),
        ("postgresql://h/k?target_session_attrs=primry", "target_session_attrs"),
        ("postgresql://h/k?sslnegotiation=direct", "sslnegotiation"),
        ("postgresql://h/k?connect_timeout=soon", "connect_timeout"),
        ("postgresql://h/k?keepalives_idle=x", "keepalives_idle"),
        ("postgresql://h/k?prepare_threshold=0", "prepare_threshold"),
        ("postgresql:///k?service=nowhere", "service"),
        ("postgresql:///k?host=h1,h2&port=1,2,3", "port"),
        ("mariadb://u:pass-word@h/k?sslmode=require", "sslmode"),
        ("mysql://h/k?useSSL=true", "useSSL"),
        ("mariadb://h/k?application_name=kopeck", "application_name"),
        ("mariadb://h/k?charset=utf8mb5", "charset"),
        ("mariadb://h/k?connect_timeout=soon", "connect_timeout"),
        ("sqlite:///k.db?charset=utf8", "charset"),
        ("sqlite:///k.db?timeout=soon", "timeout"),
    ],
)
def test_option_of_another_driver_is_named(url, option):
    (problem,) = found(DATABASE_URL=url)

    assert problem.startswith("DATABASE_URL has options that the driver of ")
    assert option in problem.rpartition(": ")[2].split(", ")
    assert "pass-word" not in problem
    assert "requir;" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:6432/k?sslmode=require&application_name=kopeck&connect_timeout=3",
        "postgresql:///k?host=h1:1&host=h2:2&target_session_attrs=read-write",
        "postgresql:///k?host=/var/run/postgresql",
        "postgresql://h/k?options=-csearch_path%3Dledger",
        "mariadb://u:p@h:3307/k?charset=utf8mb4&connect_timeout=3",
        "mariadb://u@/k?unix_socket=/run/mysqld/mysqld.sock",
        "sqlite:///k.db?timeout=3",
    ],
)
def test_options_of_the_driver_itself_are_accepted(url):
    assert found(DATABASE_URL=url) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://h/k?sslrootcert=/nowhere.pem", "(sslrootcert) names /nowhere.pem, which is no file"),
        ("postgresql://h/k?sslmode=verify-full&sslrootcert={own}/text.pem", "holds no certificate"),
        ("postgresql://h/k?sslcert=/nowhere.pem&sslkey={own}/key.pem", "(sslcert) names /nowhere.pem"),
        ("postgresql://h/k?sslcert={own}/cert.pem&sslkey=/nowhere.pem", "(sslcert) names /nowhere.pem"),
        ("postgresql://h/k?sslcert={own}/cert.pem&sslkey={own}/cert.pem", "are no certificate and its key"),
        ("postgresql://h/k?passfile=/nowhere", "(passfile) names /nowhere"),
        ("mariadb://h/k?ssl_ca=/nowhere.pem", "(ssl_ca) names /nowhere.pem, which is no file"),
        ("mariadb://h/k?ssl_ca={own}/text.pem", "(ssl_ca) names {own}/text.pem, which holds no certificate"),
        ("mariadb://h/k?ssl_cert={own}/cert.pem&ssl_key=/nowhere.pem", "(ssl_cert) names /nowhere.pem"),
        ("mariadb://h/k?ssl_capath=/nowhere", "(ssl_capath) names /nowhere"),
        ("mariadb://h/k?read_default_file=/nowhere", "(read_default_file) names /nowhere"),
        ("mariadb://u@h/", "names no database"),
        ("sqlite:////etc", "names /etc, which is a folder"),
        ("sqlite:////etc/passwd", "names /etc/passwd, which is no SQLite database"),
        ("sqlite:////etc/passwd/k.db", "names a file in /etc/passwd, which is no folder"),
    ],
)
def test_files_of_a_database_are_read(own, url, words):
    (problem,) = found(DATABASE_URL=url.format(own=own))

    assert words.format(own=own) in problem


def test_files_that_tls_can_read_are_accepted(own):
    options = f"sslmode=verify-full&sslrootcert={certifi.where()}&sslcert={own}/cert.pem&sslkey={own}/key.pem"

    assert found(DATABASE_URL=f"postgresql://h/k?{options}") == []
    assert found(DATABASE_URL="postgresql://h/k?sslmode=verify-full&sslrootcert=system") == []
    assert (
        found(DATABASE_URL=f"mariadb://h/k?ssl_ca={certifi.where()}&ssl_cert={own}/cert.pem&ssl_key={own}/key.pem")
        == []
    )


def test_key_that_libpq_would_refuse_is_named(own, tmp_path):
    key = tmp_path / "key.pem"
    key.write_bytes((own / "key.pem").read_bytes())
    key.chmod(0o644)

    (problem,) = found(DATABASE_URL=f"postgresql://h/k?sslcert={own}/cert.pem&sslkey={key}")

    assert "chmod 600" in problem


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pass-word@127.0.0.1:abc/0",
        "redis://:pass-word@127.0.0.1:99999/0",
        "redis://:pass-word@h/zero",
        "redis://:pass-word@h/-1",
        "redis://:pass-word@h/0?foo=bar",
        "redis://:pass-word@[::1/0",
        "rediss://:pass-word@h/0?ssl_cert_reqs=sometimes",
        "rediss://:pass-word@h/0?ssl_ca_certs=/nowhere.pem",
        "amqp://u:pass-word@h/vh?foo=1",
        "amqp://u:pass-word@h//?heartbeat=often",
        "amqp://u:pass-word@h//?connect_timeout=soon",
        "amqps://u:pass-word@h//?ssl=on",
    ],
)
def test_broker_that_its_client_cannot_use_is_refused(url):
    (problem,) = found(CELERY_BROKER_URL=url)

    assert problem.startswith("CELERY_BROKER_URL ")
    assert "pass-word" not in problem


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://:p@h:6380/5", "rediss://h/0?ssl_cert_reqs=required", "amqp://u:p@h:5672//", "amqp://h/v"],
)
def test_broker_that_its_client_can_use_is_accepted(url):
    assert found(CELERY_BROKER_URL=url) == []


@pytest.mark.parametrize(
    "secret", ["whsec_not base64!", "whsec_ключ", "whsec_", "whsec_abc", "whpk_AAAA", f"whsk_{'A' * 43}="]
)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_secret_that_no_scheme_can_use_is_refused(secret, environment):
    said = [
        each for each in found(BANK_WEBHOOK_SECRETS=f"{SECRET},{secret}", KOPECK_ENV=environment) if "holds a" in each
    ]

    assert [each for each in said if each.startswith("BANK_WEBHOOK_SECRETS") and "weak" not in each]
    assert not [each for each in said if secret != "whsec_" and secret in each]


def test_secrets_of_both_schemes_are_accepted():
    assert banks.problems({"plain": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "text, any at all", SECRET]}) == []


def test_app_is_not_made_of_settings_that_cannot_be_used(monkeypatch):
    for name, value in {**SETTINGS, "DATABASE_URL": "postgresql://h/k?charset=utf8mb4"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit, match="driver of postgresql cannot use: charset"):
        create_app()


def test_everything_that_is_wrong_is_one_list():
    listed = found(
        PORT="x",
        DATABASE_URL="mariadb://h/k?sslmode=require",
        CELERY_BROKER_URL="redis://h/x",
        CA_BUNDLE="/nowhere.pem",
        BANK_WEBHOOK_SECRETS="whsec_?",
    )

    assert [line.split()[0] for line in listed] == [
        *("PORT", "CA_BUNDLE", "BANK_WEBHOOK_SECRETS", "DATABASE_URL", "CELERY_BROKER_URL")
    ]
