"""Settings: defaults, precedence, and a refusal that lists everything at once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config import ROOT, Config, ConfigError, load

NOBODY = 65534
"""The number of the user who owns nothing."""

STRONG = "c41f9d07e6b2a85389f1d04e7ab6c259c7e80f13b5d94a620d8e3f71c5b9a264"
KEY = "92e6b0d4f7183ca5608de1f94b72c3a7"


def read(**environ: str) -> Config:
    return Config.from_env({"BANK_WEBHOOK_SECRETS": STRONG, "SECRETS_KEYS": KEY, **environ})


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(**environ)
    return caught.value.problems


def test_defaults_serve_this_machine_from_sqlite():
    config = read()

    assert (config.environment, config.host, config.port) == ("development", "127.0.0.1", 8000)
    assert config.database_url.render_as_string() == f"sqlite:///{ROOT / 'instance' / 'kopeck.db'}"
    assert config.unknown_inn == "create"


def test_empty_means_not_set():
    assert read(PORT="", DATABASE_URL=" ", UNKNOWN_INN="") == read()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@db/k", "postgresql+psycopg://u:***@db/k"),
        ("postgres://db/k", "postgresql+psycopg://db/k"),
        ("mysql://u@db/k", "mysql+pymysql://u@db/k"),
        ("mariadb://u@db/k", "mariadb+pymysql://u@db/k"),
        ("sqlite:////tmp/k.db", "sqlite:////tmp/k.db"),
    ],
)
def test_database_address_gets_the_driver_that_is_installed(given, used):
    assert str(read(DATABASE_URL=given).database_url) == used


def test_secrets_are_listed_newest_first_and_each_bank_has_its_own():
    config = read(BANK_WEBHOOK_SECRETS=" new , old,", BANK_WEBHOOK_SECRETS_TOCHKA="other")

    assert config.bank_secrets == {"plain": ("new", "old"), "tochka": ("other",)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("BANK_WEBHOOK_SECRETS_PLAIN", STRONG), ("BANK_WEBHOOK_SECRETS_", STRONG), ("BANK_WEBHOOK_SECRETS_TOCHKA", " , ")],
)
def test_secrets_that_would_be_ignored_are_refused(name, value):
    (problem,) = problems(**{name: value})

    assert problem.startswith(name)
    assert STRONG not in problem


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_database_in_memory_is_refused(url):
    (problem,) = problems(DATABASE_URL=url)

    assert "must name a file" in problem


def test_relative_sqlite_file_lies_in_the_instance_folder():
    assert read(DATABASE_URL="sqlite:///k.db").database_url.database == str(ROOT / "instance" / "k.db")


def test_secrets_do_not_show_in_a_printed_config():
    assert STRONG not in repr(read())


def test_every_problem_is_listed_at_once():
    listed = problems(
        KOPECK_ENV="prod", PORT="80000", DATABASE_URL="oracle://x", BANK_WEBHOOK_SECRETS="", UNKNOWN_INN="ask"
    )

    assert [line.split()[0] for line in listed] == [
        "KOPECK_ENV",
        "PORT",
        "DATABASE_URL",
        "BANK_WEBHOOK_SECRETS",
        "UNKNOWN_INN",
    ]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "8e3", "８０００", "x"])
def test_port_must_be_one(port):
    assert problems(PORT=port) == ["PORT must be a number from 1 to 65535"]


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "oracle://user:pass-word@db/k",
        "postgresql//user:pass-word@db",
        "postgresql://u:p@x:pass-word@h/d",
        "mariadb://u:p@pass-word@h/d",
    ],
)
def test_bad_database_address_is_not_quoted(url):
    (problem,) = problems(DATABASE_URL=url)

    assert "pass-word" not in problem


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_development_listens_on_any_name_of_this_machine(host):
    assert read(HOST=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "kopeck.example"])
def test_development_listens_on_loopback_only(host):
    (problem,) = problems(HOST=host)

    assert problem.startswith("HOST must be a loopback address")
    assert read(HOST=host, KOPECK_ENV="production").host == host


@pytest.mark.parametrize("name", ["BANK_WEBHOOK_SECRETS", "SECRETS_KEYS", "BANK_WEBHOOK_SECRETS_TOCHKA"])
@pytest.mark.parametrize("secret", ["changeme-changeme-changeme-changeme", "01234567890123456789012345678901"])
def test_production_refuses_weak_secrets(name, secret):
    other = STRONG[::-1]
    assert read(**{name: secret}).environment == "development"
    (problem,) = problems(KOPECK_ENV="production", **{name: f"{other},{secret}"})
    assert problem.startswith(f"{name} holds a weak secret")
    assert secret not in problem


def test_production_refuses_short_secrets():
    (problem,) = problems(KOPECK_ENV="production", BANK_WEBHOOK_SECRETS=STRONG[:31])

    assert problem.startswith("BANK_WEBHOOK_SECRETS holds a weak secret")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"BANK_WEBHOOK_SECRETS_TOCHKA": STRONG}, ("BANK_WEBHOOK_SECRETS", "BANK_WEBHOOK_SECRETS_TOCHKA")),
        ({"BANK_WEBHOOK_SECRETS": KEY}, ("BANK_WEBHOOK_SECRETS", "SECRETS_KEYS")),
        ({"BANK_WEBHOOK_SECRETS_TOCHKA": KEY[::-1] + "," + KEY}, ("BANK_WEBHOOK_SECRETS_TOCHKA", "SECRETS_KEYS")),
        ({"SECRETS_KEYS": f"{KEY},{STRONG}"}, ("BANK_WEBHOOK_SECRETS", "SECRETS_KEYS")),
    ],
)
def test_production_refuses_one_secret_for_two_uses(settings, names):
    assert read(**settings).environment == "development"
    (problem,) = problems(KOPECK_ENV="production", **settings)

    assert problem.startswith(f"{names[0]} and {names[1]} hold the same secret")
    assert not [secret for secret in (STRONG, KEY) if secret in problem]


def test_production_refuses_weak_secrets_of_other_banks_too():
    (problem,) = problems(KOPECK_ENV="production", BANK_WEBHOOK_SECRETS_TOCHKA="weak")

    assert problem.startswith("BANK_WEBHOOK_SECRETS_TOCHKA")


@pytest.mark.parametrize(
    "url", ["http://proxy.corp:3128", "http://user:pass-word@10.0.0.1:3128/", "http://[fd00::1]:8080?dns=proxy"]
)
def test_proxy_is_kept_as_given_and_not_shown(url):
    config = read(OUTBOUND_PROXY_URL=url)

    assert config.outbound_proxy_url == url
    assert url not in repr(config)
    assert "pass-word" not in repr(config)


@pytest.mark.parametrize(
    "url",
    [
        *("user:pass-word@proxy.corp:3128", "http://user:pass-word@proxy.corp", "socks5://user:pass-word@proxy.corp:1"),
        *("http://user:pass-word@:3128", "http://user:pass-word@proxy.corp:99999", "http://user:p@ss-pass-word@p:3128"),
        *("http://user:pass-word%0A@proxy.corp:3128", "http://user:pass-word@256.1.1.1:3128"),
    ],
)
def test_proxy_that_cannot_be_read_is_not_quoted(url):
    (problem,) = problems(OUTBOUND_PROXY_URL=url)

    assert problem.startswith("OUTBOUND_PROXY_URL ")
    assert "pass-word" not in problem


def test_there_is_no_proxy_and_no_further_authority_by_default():
    assert (read().outbound_proxy_url, read().ca_bundle) == (None, None)


def test_file_of_authorities_is_read_by_tls():
    assert read(CA_BUNDLE=certifi.where()).ca_bundle == Path(certifi.where())


def test_relative_file_of_authorities_lies_beside_the_code():
    (problem,) = problems(CA_BUNDLE="certificates/none.pem")

    assert f"names {ROOT / 'certificates' / 'none.pem'}, which is no file" in problem


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no certificate",
        Path(certifi.where()).read_bytes()[:-100],
        b"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n",
        b"\x30\x82\x05\x00\x30\x82",
    ],
)
def test_file_that_tls_cannot_read_is_refused(tmp_path, content):
    file = tmp_path / "ca.pem"
    file.write_bytes(content)

    (problem,) = problems(CA_BUNDLE=str(file))

    assert problem.startswith(f"CA_BUNDLE names {file}, which holds no certificate in PEM form: ")


def test_list_of_revoked_certificates_is_no_authority(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority")])
    revoked = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now)
    file = tmp_path / "crl.pem"
    file.write_bytes(revoked.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    (problem,) = problems(CA_BUNDLE=str(file))

    assert "holds no certificate" in problem


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_file_of_authorities_must_be_there(tmp_path, kind):
    file = tmp_path if kind == "folder" else tmp_path / "ca.pem"

    (problem,) = problems(CA_BUNDLE=str(file))

    assert problem.startswith(f"CA_BUNDLE names {file}, which is no file")


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Be somebody else for a moment where root runs the tests: root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_file_of_authorities_must_be_readable():
    with TemporaryDirectory() as folder:
        # Unlike pytest's own folders, one that everybody may look into: only the file itself is closed to them.
        Path(folder).chmod(0o755)
        file = Path(folder) / "ca.pem"
        file.write_bytes(Path(certifi.where()).read_bytes())
        file.chmod(0)

        with ordinary_user():
            (problem,) = problems(CA_BUNDLE=str(file))

    assert "may not read" in problem


def test_environment_wins_over_the_file(tmp_path):
    (tmp_path / ".env").write_text(f"PORT=1111\nUNKNOWN_INN=hold\nBANK_WEBHOOK_SECRETS={STRONG}\nSECRETS_KEYS={KEY}\n")

    config = load(tmp_path / ".env", {"PORT": "2222"})

    assert (config.port, config.unknown_inn) == (2222, "hold")
    assert load(tmp_path / ".env", {"PORT": ""}).port == 1111


def test_file_is_taken_as_written(tmp_path):
    (tmp_path / ".env").write_text(f"BANK_WEBHOOK_SECRETS=abc${{HOME}}def # the bank's\nSECRETS_KEYS={KEY}\n")

    assert load(tmp_path / ".env", {"HOME": "/root"}).bank_secrets == {"plain": ("abc${HOME}def",)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'KOPECK_ENV="production\nPORT=1\n', "line 1 cannot be read"),
        (b"PORT=1\nnot a setting at all\n", "line 2 cannot be read"),
        ("PORT=1 # \u043f\u043e\u0440\u0442".encode("cp1251"), "not UTF-8"),
    ],
)
def test_file_that_cannot_be_read_stops_the_start(tmp_path, content, words):
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(SystemExit, match=words):
        load(tmp_path / ".env", {"BANK_WEBHOOK_SECRETS": STRONG, "SECRETS_KEYS": KEY})


def test_missing_file_is_no_problem(tmp_path):
    assert load(tmp_path / ".env", {"BANK_WEBHOOK_SECRETS": STRONG, "SECRETS_KEYS": KEY}) == read()


def test_process_with_bad_settings_ends_with_the_list(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", "import config; config.load()"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "BANK_WEBHOOK_SECRETS": STRONG, "PORT": "x", "KOPECK_ENV": "y"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert "  - PORT must be" in result.stderr
    assert "  - KOPECK_ENV must be" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("kind", ['"{}"', "'{}'", "`{}`", "“{}”", "«{}»", "„{}“"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("DATABASE_URL", "postgresql://u@db/k"), ("PORT", "8000"), ("BANK_WEBHOOK_SECRETS", STRONG)),
        *(("BANK_WEBHOOK_SECRETS_TOCHKA", STRONG), ("SECRETS_KEYS", STRONG), ("CA_BUNDLE", "/nowhere.pem")),
    ],
)
def test_value_in_quotation_marks_is_refused(kind, name, value):
    listed = problems(**{name: kind.format(value)})

    assert listed[0].startswith(f"{name} is in quotation marks")
    assert not [problem for problem in listed if value in problem and value not in {"/nowhere.pem", "8000"}]


def test_each_secret_of_a_list_is_looked_at():
    assert problems(BANK_WEBHOOK_SECRETS=f"{STRONG},'{STRONG}'")[0].startswith("BANK_WEBHOOK_SECRETS is in quotation")


@pytest.mark.parametrize("sign", ["\n", "\t", "\u00a0", "\u200b", "\ufeff", "\udcff"])
def test_signs_that_cannot_be_seen_are_refused(sign):
    (problem,) = problems(BANK_WEBHOOK_SECRETS=f"{STRONG}{sign}{STRONG}")

    assert problem.startswith("BANK_WEBHOOK_SECRETS holds a line break or another sign that cannot be seen")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "http://x", "a b", "300.1.1.1", "127.1", "0x7f.1", "[", "[x]", "-", "x..y"]
)
def test_host_that_cannot_be_listened_on_is_refused(host):
    (problem,) = [each for each in problems(HOST=host, KOPECK_ENV="production") if each.startswith("HOST")]

    assert "without a port" in problem


@pytest.mark.parametrize("url", ["postgresql://h:99999/k", "mariadb://h:0/k"])
def test_port_of_a_database_must_be_one(url):
    (problem,) = problems(DATABASE_URL=url)

    assert "port" in problem


def test_settings_are_looked_at_in_use_too_and_listed_with_the_others():
    seen = []

    def check(config: Config) -> list[str]:
        seen.append(config.port)
        return ["CA_BUNDLE is of no use"]

    with pytest.raises(ConfigError) as caught:
        Config.from_env({"BANK_WEBHOOK_SECRETS": STRONG, "SECRETS_KEYS": KEY, "PORT": "x"}, check)

    assert caught.value.problems == ["PORT must be a number from 1 to 65535", "CA_BUNDLE is of no use"]
    assert seen == [8000]


def test_last_of_repeated_names_counts_even_when_it_is_empty(tmp_path):
    (tmp_path / ".env").write_text(
        f"PORT=1\nPORT=2\nUNKNOWN_INN=hold\nUNKNOWN_INN=\nBANK_WEBHOOK_SECRETS={STRONG}\nSECRETS_KEYS={KEY}\n"
    )

    config = load(tmp_path / ".env", {})

    assert (config.port, config.unknown_inn) == (2, "create")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_host_of_version_six_may_have_brackets(host):
    assert read(HOST=host).host == "::1"
