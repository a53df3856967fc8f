"""The pages in a real browser: opened from disk, filtered by keyboard, on a phone, in the dark, and under attack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.report.site import write_site
from tests.assay.report.example import Example, hostile
from tests.assay.report.test_site import contrast

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
PAGES = (
    "index.html", "claims.html", "papers/dagnn.html", "papers/pres.html", "topics/dynamic-graphs.html",
    "data/bitcoin_otc.html",
)  # fmt: skip


@dataclass(frozen=True)
class Browser:
    driver: WebDriver
    site: Path

    def open(self, page: str, *, width: int = 1280, dark: bool = False, site: Path | None = None) -> None:
        """A page from disk, in a window of this width; what the page logged before is forgotten."""
        self.driver.get("about:blank")  # a change of the hash alone would not load the page again
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(f"file://{site or self.site}/{page}")

    def js(self, code: str) -> object:
        return self.driver.execute_script(f"return {code}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def tab_to(self, selector: str) -> None:
        """Move the focus as a reader without a mouse does."""
        for _ in range(60):
            if self.js(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"{selector} cannot be reached by keyboard")

    def claims(self) -> list[str]:
        """The verdicts of the claims that can be seen."""
        return self.js("[...document.querySelectorAll('details .board tbody tr')].filter(r => r.checkVisibility())"
                       ".map(r => r.dataset.verdict)")  # type: ignore[return-value]  # fmt: skip

    def papers(self) -> list[str]:
        """The papers of the front page whose headlines can be seen."""
        return self.js("[...document.querySelectorAll('#headline-board th a[href^=papers]')]"
                       ".filter(a => a.checkVisibility()).map(a => a.textContent)")  # type: ignore[return-value]  # fmt: skip

    def status(self) -> str:
        return self.driver.find_element(By.ID, "shown").text


@pytest.fixture(scope="module")
def browser(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    site = tmp_path_factory.mktemp("site")
    write_site(example.cards, example.results, example.verdicts, site)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver, site)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    example, site = hostile(), tmp_path_factory.mktemp("hostile")
    write_site(example.cards, example.results, example.verdicts, site)
    return site


def requests(driver: WebDriver) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {url for url in sent if not url.startswith(("data:", "about:", "chrome:"))}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_from_disk_in_silence_and_asks_for_nothing(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.driver.find_element(By.TAG_NAME, "h1").is_displayed()
    assert requests(browser.driver) == {f"file://{browser.site}/{page}"}
    assert browser.js("performance.getEntriesByType('resource').length") == 0
    assert browser.driver.get_log("browser") == []


def test_the_policy_stops_what_the_page_did_not_bring(browser: Browser) -> None:
    browser.open("index.html")
    browser.js("document.body.insertAdjacentHTML('beforeend', '<p id=probe style=\"color: red\">x</p>')")
    assert browser.js("getComputedStyle(document.getElementById('probe')).color") != "rgb(255, 0, 0)"
    assert any("Content Security Policy" in entry["message"] for entry in browser.driver.get_log("browser"))


def test_the_style_reaches_the_strips_and_the_figures(browser: Browser) -> None:
    browser.open("papers/pres.html")
    assert browser.js("getComputedStyle(document.querySelector('.plot .s-s1')).stroke") == "rgb(0, 101, 163)"
    assert (
        browser.js("getComputedStyle(document.querySelector('.strip.direction .interval')).stroke")
        == "rgb(11, 79, 134)"
    )
    assert browser.js("document.querySelectorAll('.plot').length") == 3


def test_claims_are_collapsed_by_paper_and_filtered_by_keyboard(browser: Browser) -> None:
    browser.open("claims.html")
    assert browser.claims() == []
    assert browser.status() == "9 claims and checks, collapsed by paper."
    browser.tab_to("input[value=contradicted]")
    browser.press(Keys.SPACE)
    assert browser.claims() == ["contradicted"]
    assert browser.status() == "1 of 9 claims and checks are shown."
    browser.tab_to("input[value=untested]")
    browser.press(Keys.SPACE)
    assert set(browser.claims()) == {"contradicted", "untested"}


def test_a_paper_is_opened_by_keyboard(browser: Browser) -> None:
    browser.open("claims.html")
    browser.tab_to("summary")
    browser.press(Keys.ENTER)
    assert len(browser.claims()) == 3


def test_text_is_filtered_by_keyboard(browser: Browser) -> None:
    browser.open("claims.html")
    browser.tab_to("input[name=q]")
    browser.press("COLLAPSES gcn")
    assert browser.claims() == ["reproduced"]
    browser.press(" nowhere")
    assert browser.claims() == []
    assert "Nothing fits" in browser.status()
    browser.tab_to("button[type=reset]")
    browser.press(Keys.ENTER)
    assert browser.status() == "9 claims and checks, collapsed by paper."


def test_text_finds_authors_devices_and_names_of_claims(browser: Browser) -> None:
    for words, count in (("zou", 6), ("CPU standard", 5), ("speedup-3p4", 1), ("from memory", 1), ("3.4x", 1)):
        browser.open("claims.html")
        browser.tab_to("input[name=q]")
        browser.press(words)
        assert len(browser.claims()) == count, words


@pytest.mark.parametrize("words", ["3.4x", "3.4 ×", "speed-up", "speedup", "bitcoin_otc", "Zou", "memory based"])
def test_the_front_page_finds_a_paper_by_what_its_claims_say(browser: Browser, words: str) -> None:
    browser.open("index.html")
    assert browser.papers() == ["PRES", "DAGNN"]
    browser.tab_to("input[name=q]")
    browser.press(words)
    assert browser.papers() == ["PRES"]
    link = browser.driver.find_element(By.CSS_SELECTOR, "#found a")
    assert browser.driver.find_element(By.ID, "found").text == "1 of 2 papers. Search all claims"
    link.click()
    assert browser.js("document.querySelector('input[name=q]').value") == words


def test_a_count_leads_to_its_claims(browser: Browser) -> None:
    browser.open("index.html")
    browser.driver.find_element(By.CSS_SELECTOR, ".counts li:nth-child(2) a").click()
    assert browser.claims() == ["direction only"] * 2


def test_a_filter_lives_in_the_address_and_survives_it(browser: Browser) -> None:
    browser.open("claims.html")
    browser.tab_to("input[value=reproduced]")
    browser.press(Keys.SPACE)
    browser.tab_to("input[name=q]")
    browser.press("a&b=c")
    address = browser.driver.current_url
    assert address.endswith("#verdict=reproduced&q=a%26b%3Dc")
    browser.open("claims.html" + address.partition("claims.html")[2])
    assert browser.js("document.querySelector('input[name=q]').value") == "a&b=c"
    browser.open("claims.html#verdict=contradicted&verdict=direction+only&profile=standard")
    assert sorted(browser.claims()) == ["contradicted", "direction only", "direction only"]
    browser.open("claims.html#pres")
    assert len(browser.claims()) == 6


def test_a_hash_of_nonsense_hides_nothing(browser: Browser) -> None:
    browser.open("claims.html#of=<img>&verdict=&q=")
    assert browser.status() == "9 claims and checks, collapsed by paper."
    assert browser.driver.get_log("browser") == []


def test_without_scripts_every_headline_is_visible_and_every_paper_opens(browser: Browser) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open("index.html")
        assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#headline-board .says")) == 3
        browser.open("claims.html#verdict=contradicted")
        browser.driver.find_element(By.TAG_NAME, "summary").click()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(browser.claims()) == 3
    assert not browser.driver.find_element(By.ID, "filter").is_displayed()


def test_the_first_stop_of_the_keyboard_skips_to_the_content(browser: Browser) -> None:
    browser.open("papers/pres.html")
    browser.press(Keys.TAB)
    skip = browser.driver.switch_to.active_element
    assert skip.text == "Skip to the content"
    assert skip.location["x"] >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.js("document.activeElement.id") == "main"


def test_focus_can_be_seen(browser: Browser) -> None:
    browser.open("index.html")
    browser.tab_to("input[name=q]")
    assert browser.js("getComputedStyle(document.activeElement).outlineWidth") == "3px"


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_never_scrolls_sideways(browser: Browser, page: str) -> None:
    browser.open(page, width=360)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.js("document.scrollingElement.scrollWidth") <= 360  # type: ignore[operator]
    headers = "[...document.querySelectorAll('thead')].every(h => h.getBoundingClientRect().width <= 1)"
    assert browser.js(headers), "tables are still tables"


@pytest.mark.parametrize("page", ["index.html", "claims.html", "papers/hostile.html"])
def test_long_words_do_not_widen_a_phone(browser: Browser, attacked: Path, page: str) -> None:
    browser.open(page, width=360, site=attacked)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.js("document.scrollingElement.scrollWidth") <= 360  # type: ignore[operator]


@pytest.mark.parametrize("page", PAGES)
def test_the_dark_is_dark_and_can_be_read(browser: Browser, page: str) -> None:
    grounds = {}
    for dark in (False, True):
        browser.open(page, dark=dark)
        ink, ground = browser.js(
            "['color', 'backgroundColor'].map(p => '#' + getComputedStyle(document.body)[p].match(/\\d+/g).slice(0, 3)"
            ".map(c => (+c).toString(16).padStart(2, '0')).join(''))"
        )  # type: ignore[misc]
        assert contrast(ink, ground) > 7
        grounds[dark] = ground
    assert contrast(grounds[True], "#000000") < 2 < 10 < contrast(grounds[False], "#000000")


@pytest.mark.parametrize(("page", "scripts"), [("index.html", 1), ("claims.html", 1), ("papers/hostile.html", 0)])
def test_an_attack_from_a_card_becomes_text(browser: Browser, attacked: Path, page: str, scripts: int) -> None:
    browser.open(page, site=attacked)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.js("window.owned") is None
    assert browser.js("document.scripts.length") == scripts
    assert browser.js("document.querySelectorAll('img, iframe, object, embed, b > img').length") == 0
    assert browser.js("document.querySelectorAll('style').length") == 1
    assert browser.js("[...document.querySelectorAll('*')].some(e => [...e.attributes].some("
                      "a => a.name.startsWith('on') || a.name === 'style'))") is False  # fmt: skip
    assert browser.js("[...document.links].every(a => ['file:', 'https:', 'http:'].includes(a.protocol))")
    assert browser.js("document.body.textContent.split('<script>window.owned=1</script>').length") > 5  # type: ignore[operator]
    assert browser.driver.get_log("browser") == []
