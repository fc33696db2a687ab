import os

import pytest


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    pytest.importorskip("websocket", reason="the page test needs websocket-client, of the extra 'docs'")
    from tests.site import browser as chromium

    executable = chromium.find()
    if executable is None:
        message = "the page test needs Chromium (on Debian the package chromium), or its path in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    opened = chromium.Browser(executable, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()
