"""The page in a real browser: what a user does with it."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pyvips
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from .conftest import BUCKET, faults_of

pytestmark = pytest.mark.timeout(120)

RECORD_PROGRESS = """() => {
    const bar = document.getElementById("totals-bar");
    window.fractions = [];
    new MutationObserver(() => window.fractions.push(bar.value)).observe(bar, { attributes: true });
}"""


def add(page: Page, folder: Path, **settings: str) -> None:
    for name, value in settings.items():
        field = page.locator(f"[name={name}]")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
            field.blur()
    page.locator("#folder-input").set_input_files(folder)


def row(page: Page, name: str) -> Locator:
    return page.locator("file-row", has=page.get_by_text(name, exact=True))


def totals(page: Page) -> Locator:
    return page.locator("#totals-text")


def hold(page: Page, name: str) -> None:
    """Let the upload of one file neither end nor fail, until `unroute`."""

    def decide(route: Route) -> None:
        if name not in route.request.url:
            route.continue_()

    page.route("**/files/*", decide)


def files_of(page: Page) -> dict[str, Any]:
    batch = page.url.partition("#batch=")[2]
    answer = page.request.get(f"{page.url.partition('#')[0]}api/batches/{batch}")
    return {file["name"]: file for file in answer.json()["files"]}


def test_a_folder_is_converted_and_every_file_tells_its_state(page: Page, folder: Path, tmp_path: Path) -> None:
    page.evaluate(RECORD_PROGRESS)
    hold(page, "09.jpg")
    add(page, folder, widths="200")
    expect(page.locator("file-row")).to_have_count(24)
    expect(page.locator("#message")).to_have_text("1 file is no picture and was left out.")
    page.get_by_role("button", name="Cancel holiday/09.jpg").click()
    expect(totals(page)).to_contain_text("22 of 24 done, 1 failed, 1 cancelled", timeout=60_000)
    fractions = page.evaluate("window.fractions")
    assert fractions == sorted(fractions)
    assert len(fractions) > 3
    page.unroute("**/files/*")
    page.get_by_role("button", name="Retry holiday/09.jpg").click()
    expect(totals(page)).to_contain_text("23 of 24 done, 1 failed")
    expect(page.locator("#announcer")).to_have_text("23 of 24 done, 1 failed")
    expect(row(page, "holiday/broken.jpg").locator(".state")).to_contain_text("Failed: The picture is damaged.")
    expect(row(page, "holiday/large.jpg").locator(".state")).to_contain_text("200 \u00d7 200 WebP")
    assert page.locator("file-row img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 16
    assert faults_of(page) == ""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all as ZIP").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    results = [result for file in files_of(page).values() for result in file["results"]]
    assert digests == {result["name"]: result["sha256"] for result in results}
    assert len(digests) == 23
    link = row(page, "holiday/00.jpg").get_by_role("link")
    with page.expect_download() as single:
        link.click()
    assert hashlib.sha256(single.value.path().read_bytes()).hexdigest() == digests["holiday/00.webp"]
    assert single.value.suggested_filename == "00.webp"


def test_a_result_is_compared_by_keyboard_and_by_pointer(page: Page, slow_folder: Path) -> None:
    add(page, slow_folder, widths="700")
    page.get_by_role("button", name="Compare slow/slow-0.jpg with its original").click()
    divider = page.get_by_role("slider")
    expect(divider).to_be_focused()
    clip = page.locator("#compare-clip")
    assert clip.evaluate("element => element.style.clipPath") == "inset(0px 50% 0px 0px)"
    page.keyboard.press("ArrowRight")
    assert clip.evaluate("element => element.style.clipPath") == "inset(0px 49% 0px 0px)"
    page.keyboard.press("Home")
    expect(divider).to_have_attribute("aria-valuetext", "0 % original")
    page.keyboard.press("1")
    expect(page.locator("#zoom-text")).to_have_text("100 %")
    assert page.locator("#compare-stage").evaluate("element => element.offsetWidth") == 700
    page.keyboard.press("+")
    expect(page.locator("#zoom-text")).to_have_text("200 %")
    page.keyboard.press("0")
    box = page.locator("#compare-stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 60)
    page.mouse.up()
    expect(divider).to_have_value(re.compile("7[456]"))
    assert faults_of(page) == ""
    page.keyboard.press("Escape")
    expect(page.locator("#compare")).to_be_hidden()


def test_a_reload_shows_the_same_batch_and_unsent_files_go_on_when_they_are_chosen_again(page: Page, slow_folder: Path) -> None:
    hold(page, "slow-3.jpg")  # so that this upload has not ended when the page is reloaded
    add(page, slow_folder, format="webp", widths="100")
    expect(totals(page)).to_contain_text("3 of 4 done")
    page.reload()
    page.unroute("**/files/*")
    expect(totals(page)).to_contain_text("3 of 4 done")
    expect(row(page, "slow/slow-3.jpg").locator(".state")).to_contain_text("choose the file again")
    expect(page.get_by_role("button", name="Choose slow/slow-3.jpg again")).to_be_visible()
    expect(page.locator("[name=widths]")).to_have_value("100")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose slow/slow-3.jpg again").click()
    chooser.value.set_files(slow_folder / "slow-3.jpg")
    expect(totals(page)).to_contain_text("4 of 4 done")


def test_two_tabs_show_the_same_batch(page: Page, context: BrowserContext, slow_folder: Path) -> None:
    add(page, slow_folder, format="avif", widths="")
    expect(page.locator("file-row")).to_have_count(4)
    other = context.new_page()
    other.goto(page.url)
    expect(other.locator("file-row")).to_have_count(4)
    other.get_by_role("button", name="Cancel all").click()
    expect(totals(page)).to_contain_text("cancelled")
    expect(totals(other)).to_have_text(totals(page).inner_text())
    page.get_by_role("button", name="New batch").click()
    expect(page.locator("file-row")).to_have_count(0)
    page.go_back()
    expect(page.locator("file-row")).to_have_count(4)


def test_uploads_go_on_when_the_connection_is_back(page: Page, slow_folder: Path, complaints: list[str]) -> None:
    page.route("**/files/*", lambda route: route.abort("internetdisconnected"))
    add(page, slow_folder, format="webp", widths="100")
    expect(page.locator("file-row")).to_have_count(4)
    expect(row(page, "slow/slow-0.jpg").locator(".state")).to_have_text("Waiting for its upload")
    page.unroute("**/files/*")
    expect(totals(page)).to_contain_text("4 of 4 done")
    assert all("ERR_INTERNET_DISCONNECTED" in text for text in complaints)
    complaints.clear()


def test_results_are_stored_in_a_bucket(page: Page, slow_folder: Path, storage: Any) -> None:
    add(page, slow_folder, format="jpeg", widths="100, 50")
    expect(totals(page)).to_contain_text("4 of 4 done")
    page.get_by_role("button", name="Upload all").click()
    expect(page.locator("file-row .state", has_text=f"Stored in s3://{BUCKET}/page/")).to_have_count(4)
    stored: dict[str, str] = {}
    for item in storage.list_objects_v2(Bucket=BUCKET)["Contents"]:
        answer = storage.get_object(Bucket=BUCKET, Key=item["Key"])
        assert answer["ContentType"] == "image/jpeg"
        stored[item["Key"].split("/", 2)[2]] = hashlib.sha256(answer["Body"].read()).hexdigest()
    results = [result for file in files_of(page).values() for result in file["results"]]
    assert stored == {result["name"]: result["sha256"] for result in results}


def test_a_dropped_and_a_pasted_picture_are_taken_and_wrong_widths_are_explained(page: Page) -> None:
    page.locator("[name=widths]").fill("0, 20")
    page.locator("[name=widths]").blur()
    expect(page.get_by_role("alert")).to_contain_text("eight different whole numbers")
    page.locator("[name=widths]").fill("20")
    page.locator("[name=widths]").blur()
    black: Any = pyvips.Image.black(30, 30, bands=3)
    data = list(black.jpegsave_buffer())
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([kind, field, data]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(data)], `${kind}.jpg`, { type: "image/jpeg" }));
                const event = kind === "drop" ? new DragEvent(kind, { [field]: transfer, bubbles: true, cancelable: true })
                                              : new ClipboardEvent(kind, { [field]: transfer, bubbles: true });
                document.body.dispatchEvent(event);
            }""",
            [kind, field, data],
        )
        expect(row(page, f"{kind}.jpg").locator(".state")).to_contain_text("Done")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 320)])
def test_nothing_overflows_and_axe_finds_nothing(page: Page, scheme: Any, width: int, slow_folder: Path) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    add(page, slow_folder, format="webp", widths="100")
    expect(totals(page)).to_contain_text("4 of 4 done")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults_of(page) == ""


def test_frames_are_shown_while_the_music_plays_and_can_be_exported(page: Page, song: Path) -> None:
    page.get_by_role("link", name="Live").click()
    page.locator("#track").set_input_files(song)
    expect(page.locator("#connection-text")).to_have_text("Ready to play")
    assert faults_of(page) == ""
    page.locator("#size").select_option("640x360")
    page.locator("#sound").evaluate("sound => sound.play()")
    expect(page.locator("#shown")).not_to_have_text("0")
    expect(page.locator("#beats")).to_contain_text("(126 a minute)")
    expect(page.locator("#shown-fps")).not_to_have_text("0")
    assert page.locator("#sound").evaluate("sound => !sound.paused")
    page.locator("#sound").evaluate("sound => sound.pause()")
    expect(page.locator("#connection-text")).to_have_text("Ready to play")
    page.locator("#fps").select_option("15")
    page.get_by_role("button", name="Make a video").click()
    expect(page.locator("#export-bar")).not_to_have_js_property("value", 0)
    page.get_by_role("button", name="Cancel the video").click()
    expect(page.locator("#export-text")).to_have_text("Cancelled.")


def test_music_that_is_chosen_before_the_script_has_run_is_sent(page: Page, song: Path) -> None:
    held: list[Route] = []
    page.route("**/js/live.js", lambda route: held.append(route))  # noqa: PLW0108 (Playwright counts its parameters)
    with page.expect_request("**/js/live.js"):
        page.get_by_role("link", name="Live").click()
    page.locator("#track").set_input_files(song)
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#connection-text")).to_have_text("Ready to play")


@pytest.mark.timeout(240)
def test_a_thousand_files_keep_the_page_free(page: Page, browser: Browser, thousand_files: Path, tmp_path: Path) -> None:
    """No task of the page's main thread takes 100 ms of CPU time. Its elapsed time would depend on other programs."""
    trace = tmp_path / "trace.json"
    browser.start_tracing(page=page, path=trace, categories=["disabled-by-default-devtools.timeline"])
    page.locator("#folder-input").set_input_files(thousand_files)
    expect(page.locator("file-row")).to_have_count(1000, timeout=100_000)
    expect(totals(page)).to_have_text(re.compile(r"\b[1-9]\d\d of 1000 done"), timeout=200_000)
    browser.stop_tracing()
    page.evaluate("document.getElementById('cancel-all').click()")
    expect(page.locator("#cancel-all")).to_be_disabled(timeout=100_000)  # so that the next test need not wait for the rest
    tasks = tasks_of_main_thread(trace)
    assert len(tasks) > 1000
    assert max(tasks) < 0.1


def tasks_of_main_thread(trace: Path) -> list[float]:
    """Returns the CPU seconds of each task of the page's main thread."""
    events: list[dict[str, Any]] = json.loads(trace.read_bytes())["traceEvents"]
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
    tasks = [event for event in events if event["name"] == "RunTask"]
    main = [event for event in tasks if names.get((event["pid"], event["tid"])) == "CrRendererMain"]
    return [event.get("tdur", 0) / 1e6 for event in main]
