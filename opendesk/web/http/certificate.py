"""The certificate that TLS clients are shown, which may be replaced while the daemon serves."""

from pathlib import Path
from ssl import SSLContext, SSLObject, SSLSocket

from hypercorn.config import Config
import structlog
import trio

log = structlog.get_logger()


class Certificate:
    """A certificate (with its chain) and its key, in PEM files without a passphrase."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both. Raise OSError, or ssl.SSLError (an OSError too), for what can't be read or doesn't fit together."""
        self._certificate = certificate
        self._key = key
        # What listeners hold; at each handshake it asks which one to go on with.
        self.expires_s = 0.0  # by the clock of calendars
        self.listening = self._current = self._read()
        self.listening.sni_callback = self._present

    async def reload(self) -> bool:
        """Show the files' new content to new connections. False if it is faulty; the old pair stays then."""
        try:
            self._current = await trio.to_thread.run_sync(self._read)
        except OSError as exc:
            log.error("http.certificate_refused", certificate=str(self._certificate), error=repr(exc))  # noqa: TRY400 — the files are at fault, not the code
            return False
        log.info("http.certificate_loaded", certificate=str(self._certificate))
        return True

    def _present(self, connection: SSLObject | SSLSocket, _name: str | None, _context: SSLContext) -> None:
        connection.context = self._current

    def _read(self) -> SSLContext:
        config = Config()
        config.certfile, config.keyfile = str(self._certificate), str(self._key)
        # None would make OpenSSL ask for a passphrase on the terminal.
        config.keyfile_password = ""
        config.alpn_protocols = ["http/1.1"]
        context = config.create_ssl_context()
        assert context is not None
        self.expires_s = _end_of(self._certificate)
        return context


def _end_of(chain: Path) -> float:
    """Of the first in it, which is the server's own."""
    from cryptography import x509  # noqa: PLC0415  # 30 ms of every start, and only who serves TLS needs it

    try:
        return x509.load_pem_x509_certificates(chain.read_bytes())[0].not_valid_after_utc.timestamp()
    except ValueError as error:
        raise OSError(f"{chain} is no certificate in PEM: {error}") from error
