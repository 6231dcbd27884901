"""Complaints as people say them: ``her knee blew up``, ``pins in both feet``, ``can't feel her toes``.

What hurts is a part of the body, which ordinary mail names too (the back of a page, the head of a department). So a
part counts with a possessor or a side before it and a complaint in the same sentence; parts that idioms are made of
(hand, head, heart, eye) only with a complaint that no idiom has.
"""

import re
from typing import Final

from relay.core.phi import FindingGroup
from relay.scan.shape import ANY, Shape

_RARE: Final = (
    b"knee knees hip hips shoulder shoulders ankle ankles elbow elbows wrist wrists heel heels toe toes toenail "
    b"toenails thumb thumbs finger fingers pinky knuckle knuckles forearm thigh thighs calf calves shin shins groin "
    b"belly tummy abdomen chest ribs rib breast breasts nipple nipples throat tonsils tongue gums gum tooth teeth "
    b"molar jaw chin cheek eyelid forehead eyebrow nostril armpit kneecap hamstring quad bicep sternum breastbone "
    b"buttock buttocks testicle testicles vagina penis anus fingertip fingernail canine incisor bicuspid eyeball "
    b"instep earlobe ear ears eardrum sinuses scalp spine tailbone collarbone pelvis bladder kidney kidneys "
    b"liver lung lungs prostate uterus bowels rectum stomach incision wound scar stump port stoma legs leg feet"
)
_IDIOMATIC: Final = b"foot hand hands arm arms head face eye eyes nose mouth lip lips neck back heart skin hair"
_PARTS: Final = frozenset((_RARE + b" " + _IDIOMATIC).split())
_PART: Final = b"(?:" + b"|".join(sorted(_PARTS, reverse=True)) + b")"
_IDIOMATIC_PARTS: Final = frozenset(_IDIOMATIC.split())
_SIDES: Final = frozenset(b"left right upper lower big new whole other bad good entire l r".split())
_SIDE: Final = b"(?:" + b"|".join(sorted(_SIDES, reverse=True)) + b")"
_FIRM: Final = (
    rb"hurt(?:s|ing)?|aches?|aching|achy|sore|swollen|swelling|swelled(?: up)?|swells(?: up)?|puffy|numb(?:ness)?"
    rb"|tingl(?:y|es|ing)|itch(?:y|es|ing)|bleeds?|bleeding|throbs?|throbbing|infected|inflamed|draining|drainage"
    rb"|drained|oozing|pus|cramps?|cramping|spasms?|twitch(?:es|ing)|sprained|fractured?|broken?|torn|tore|rash|lump"
    rb"|bruis(?:e|es|ed|ing)|blisters?|stitches|surgery|pains?|painful|amputated|biops(?:y|ied)|droop(?:s|ing|y)"
    rb"|paralyzed|racing|flutter(?:s|ing)|blurry|blurred|x-?rays?|mri|ultrasound|injections?|replacement|replaced"
    rb"|repaired|operation|operated|poking|cramped|jammed|shattered|dislocated|crooked|crushed"
    rb"|is killing|are killing|gave out|giv(?:es|ing) out|went out|blew up"
    rb"|flar(?:ed|es|ing)|act(?:s|ing) up|stiff|stiffness|weakness|hives"
)
_LOOSE: Final = (
    rb"tender|weak|red|pink|hot|burn(?:s|ing|ed)?|leak(?:s|ing)|shak(?:es|ing|y)|trembl(?:es|ing)|blue|purple|black"
    rb"|yellow|green|pale|crack(?:ed|s)|twisted|popp(?:ed|ing|s)|lock(?:s|ed|ing) up|worse|healing|healed|mending"
    rb"|smells?|bump|sores?|cut|bit|bitten|stung|removed|scoped|pulled|peeling|fell out|falling out|upset|bloated"
    rb"|stuffed|plugged|clogged|ringing|tight(?:ness)?|heavy|growth|spots?|mass|feels? like|felt like|better|examined"
    rb"|checked|scan|sounds? (?:clear|wet|junky)"
)
_SAID_FIRMLY: Final = re.compile(rb"\b(?:" + _FIRM + rb")\Z")
_BUSY: Final = frozenset(b"back face hand head heart eye arm".split())
"""Parts that stand in every other text: what befalls them is among the phrases of ``data/everyday.txt``."""
_THINGS: Final = (
    b"pain pains ache rash sores sore lump lumps bump bumps swelling numbness tingling burning itching bruise bruises "
    b"bruising cut gash stitches blister blisters wound bite mole spot spots growth ulcer cramp cramps spasm spasms "
    b"tightness pressure weakness stiffness infection fracture sprain hole knot needles fluid ringing bleeding mass "
    b"burns burn scar hives pus hook cast heaviness twinge discomfort soreness lesion lesions cyst "
    b"abscess boil splinter shingles"
).split()
_PLACES: Final = b"on in of to under behind down around near between across".split()
_CANNOT: Final = b"feel move bend lift raise straighten close".split()
_WHOSE: Final = b"my his her their the".split()


def _any(words: list[bytes]) -> bytes:
    return b"(?:" + b"|".join(sorted(words, reverse=True)) + b")"


def complaint_kind(_: bytes, value: bytes) -> str:
    """A complaint; of a part that idioms are made of, only if no idiom has it."""
    lowered = value.lower()
    if _IDIOMATIC_PARTS.isdisjoint(lowered.replace(b"-", b" ").split()) or _SAID_FIRMLY.search(lowered):
        return "complaint"
    return ""


BODY: Final = (
    Shape(
        kind="complaint",
        regex=rb"\b(?:(?:my|his|her|your|their|our|both|s)\s+(?:" + _SIDE + rb"\s+){0,2}|(?:left|right|new|bad)\s+)"
        rb"(" + _PART + rb"\b[^.!?\n]{1,45}?\b(?:" + _FIRM + b"|" + _LOOSE + rb"))\b",
        words=dict.fromkeys(_PARTS - _BUSY, ANY),
        led=_SIDES | frozenset(b"my his her your their our both s".split()),
        before=24,
        after=64,
        group=FindingGroup.HEALTH,
        refine=complaint_kind,
    ),
    Shape(
        kind="complaint",
        regex=rb"\b(" + _any(_THINGS) + rb"\s+" + _any(_PLACES) + rb"\s+"
        rb"(?:(?:my|his|her|your|their|the|both|one|each|a)\s+)?(?:" + _SIDE + rb"\s+){0,2}" + _PART + rb")\b",
        words=dict.fromkeys(_THINGS, frozenset(_PLACES)),
        after=60,
        group=FindingGroup.HEALTH,
    ),
    Shape(
        kind="complaint",
        regex=rb"\b((?:can.?t|cannot|can not|couldn.?t|could not|unable to)\s+(?:even\s+)?" + _any(_CANNOT) + rb"\s+"
        + _any(_WHOSE) + rb"\s+(?:" + _SIDE + rb"\s+)?" + _PART + rb")\b",
        words=dict.fromkeys(_CANNOT, frozenset(_WHOSE)),
        before=14,
        after=40,
        group=FindingGroup.HEALTH,
    ),
)  # fmt: skip
