from relay.core.decision import HeaderEdit, MethodName, Treatment
from relay.core.entry import EntryState, QueueEntry
from relay.core.level import Level
from relay.core.ports import Method, Rendering, Unavailable
from relay.methods.tls import TlsMethod

CONTENT = b"From: a@x.example\r\nSubject: [secure] your result\r\nX-Ward: 7\r\n\r\nbody\r\n"


async def render(content=CONTENT, **treatment):
    entry = QueueEntry(
        id="m.1", message_id="m", destination="x.example", treatment=Treatment(**treatment), method=MethodName.TLS,
        recipients=(), state=EntryState.READY, created_at=0, due_at=0, expires_at=1,
    )  # fmt: skip
    return await TlsMethod().render(entry, None, content)


async def test_the_original_is_not_touched():
    assert isinstance(TlsMethod(), Method)
    rendering = await render(floor=Level.VERIFIED)
    assert rendering == Rendering(content=CONTENT, floor=Level.VERIFIED)
    assert rendering.content is CONTENT


async def test_headers_and_tags_are_edited_as_the_treatment_says():
    rendering = await render(
        headers=(HeaderEdit(name="X-Ward"), HeaderEdit(name="X-Seen", value="yes")), strip_subject_tags=("[secure]",)
    )
    assert b"Subject: your result\r\n" in rendering.content
    assert b"X-Ward" not in rendering.content
    assert b"X-Seen: yes\r\n" in rendering.content
    assert rendering.content.endswith(b"\r\n\r\nbody\r\n")


async def test_a_masked_subject_leaves_nothing_of_the_subject():
    rendering = await render(mask_subject=True, strip_subject_tags=("[secure]",))
    assert rendering.content == b"From: a@x.example\r\nSubject: Protected message\r\nX-Ward: 7\r\n\r\nbody\r\n"


async def test_the_secret_that_opens_a_copy_in_the_portal_never_travels_whatever_the_methods():
    rendering = await render(content=b"POSTERN-SECRET : blue heron\r\n" + CONTENT)
    assert b"heron" not in rendering.content
    kept = CONTENT + b"Postern-Secret: is spoken of here\r\n"
    assert (await render(content=kept)).content is kept


async def test_a_header_that_cannot_be_written_makes_the_method_unavailable():
    got = await render(headers=(HeaderEdit(name="X-Seen", value="yes\r\nBcc: evil@x.example"),))
    assert isinstance(got, Unavailable)
