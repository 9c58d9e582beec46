"""How much is in a file of bolt's, told from the room that it has beside that."""

from __future__ import annotations

import base64
import io
import lzma
import struct
import tarfile
from pathlib import Path

import pytest

from canonq.adapters.data import boltfile, counting
from canonq.adapters.data.artifact import Members, members

#: Made by bbolt 1.4.3: bucket `a` with 300 keys of 4 bytes whose values have 40; in bucket `b` bucket `c` with `k`: `v`;
#: and the room of what was large and is gone.
MADE = lzma.decompress(base64.b85decode(
    "T>t<81poj4|NsC0{{R4Le|r*HrQuMUlbiV(goRA||9ILMN}Ym69JL8poX(j<#;9E_GqsLQIb^(8V6i5F6oq#=3N>TTx%X#l`4C^aSzGC6Ey;=*"
    "!RwASW_S{3)StQY4|0-#tStWszsT;pf}UgB1eGB6P184If~ef~Y_k+2`Aonb21X!tA12vp;OJM(*f7y9WN%Ln6q7#oe36k*?xp=X0l=Nd3o^dE"
    "UlSS-`KgMQOX+IR0J!bZBqVfxQS*Rw@tX9xl%Ku^3=&qK=gZP&j0?}#<)6b2)=kh7rcct8eHdu8<Hq^Yx>Pw0Ci2F}4orITVoB)nu_NdVb1UN("
    "QzkVHt-OM`<*Lbm84MA0ZI;Db8NPbC)Ov?KqqW~gYjN;kQr3cNqf~SIo_d^J^y7IgYtRs21%6Z%DjZeNewtQJ!C^N^mv#Iu$4W{o-~+t==@!uw"
    "(2)#}+KEg|&>}_1lfaZwX{oLST*M8c#uHu=W+StblN5T9*rqr>k=2dsgI^Wn7hIY$NL~InSv{~02&xA-79p8~V+mV1n8Tvj8+@?}K35U@EH-*l"
    "2%UXrd+B2o5#VC0^Fe(UVRT_cf>h9WO&nf%L3_;?ZF7^nxd1+Gfc&w+5R}YLWo3N%K~32Z0N;!vmb474D1E`BJKm%BwecR&Ecqeh&rfq&Xdq@e"
    "DgpVhL1~>`Bq66PCKuZI+~q@1=jM(2ERDzbMu18Mx#w-Bh3h50si4G{0#v5stq0lMHi6n=XU6~qqkiOQ3@3E!QoHI*(BLIq00mDrbH0P^G~-Gv"
    "W+@m%`_9f}Y^Cw7kvadN6G5nCse4w}#{YV73*ErqbR;6X>V!`d`-(3z$Yk#tvLzqCa>Impkj&;)tuId^uK<{^Za*YKe5?tP!(~v(gGUhcFZ)6*"
    "K<%2po*}Y(X1CdbaFHbnBX6G%b*``mr|_>yA&uf5Ax+IU%rp%cJGmqQ&#bP&Up5oak7*M;syRScFw6=iNu4f&5Z5?71Y8R)0zE8)wFkqk&nq8D"
    "sjQn)IkMjr!2{S&z&jofJ-$D5>^btx!`%hmt^?3{YSDYH(pcSt+<ZgG=K{kcLIJLo%2+4^SPf2;!5Yko<)sgFw!7o%KU_RYSL{Q$9v6a654-db"
    "PCoj(rFbNR%((lYe7+wVC1*LLF`O@!_!PTwUmbh7^*%79TH7~Ime<4bzH*Ev&e{aKv<UbXT9(}h82l4J1vw;uY>GLI=oGY$=CA4{;UrpxS^}m0"
    "a<j!T1BHU!+g6n`^O$B{C!(UB#$P@{8NmRa{&tw4w(<2>oJ}Iyb+;?*3jP6Ga=!PUR%3<%#-1e8cl~}xy({S-%0jdsFEoHvkH$3WVcxH{k|aqk"
    "cOTCn+Di?l0A8S+LhHf{yl_U8($dVfOwwpnK`&8`7M~Q`F%_Jjv{Ju}agwJf^8k5Mjs(SglBUSt7CR4vh%s&i+cyVYc7-)gpH^&7=o@Y=$@RE1"
    "M$%UI&?M(eq>CStqO_ew1YVS97A6zx_nJZC-e1T{Ytlf75`oj5P6grP38&-}uQvV(VEn}rc^*2!3OJ#!W}aQgWC7>_`@Bc~8cbk|B|QbBZ-NA+"
    "fJ9BrsE6#@>O-ZdRYc<>)&3XzX!tzV=LD$E^-*oK%4o&TIV4+#;4v%L9t#6o$U6R!1JoCO#iC3Q_O!Gjm;IfUM8W-NV$OG3SBcid50Lr~AibGV"
    "u*?Fph1;*Wyyz2!s8G!YTx+$_8tZ?>xX{_3a>@1?v|$;@D|{j6wYzAoYMWXr`djUZxd|O?ntYCUl<gLEHNYxSqj94*`^R#sqa(_(@b#GlHa1n{"
    "5BKfztB^+=A(ViGcDHmx&N31Q{FT~|^eTmmgG=!m(rwb$8oLq>Q#7vDhVsE2P8xG<lGKjcX5miiJ()=sE0y_2`cCIk;*thd8J<L*;?m?s_EhkQ"
    "MM~Mi4R8Pc`J}u"
))  # fmt: skip
SIZE = 300 * 44 + len("abckv")  #: bytes of all keys and values, and of the names of buckets
PAGE = 4096


def contents(text: bytes) -> tuple[int, str] | None:
    return boltfile.contents(lambda size, at: text[at : at + size])


def meta(root: int, state: int, page: int = PAGE) -> bytes:
    text = struct.pack("<4I5Q", 0xED0CDAED, 2, page, 0, root, 0, 1, 9, state)
    return struct.pack("<QHHI", 0, 4, 0, 0) + text + struct.pack("<Q", boltfile.checksum(text))


def paged(*pages: bytes) -> bytes:
    return b"".join(page.ljust(PAGE, b"\0") for page in pages)


def leaf(number: int, *keys: tuple[bytes, bytes], count: int | None = None) -> bytes:
    head, rest = struct.pack("<QHHI", number, 2, len(keys) if count is None else count, 0), b""
    for at, (key, value) in enumerate(keys):
        head += struct.pack("<4I", 0, 16 * (len(keys) - at) + len(rest), len(key), len(value))
        rest += key + value
    return head + rest


def test_keys_and_values_are_counted_and_room_beside_them_is_not() -> None:
    found = contents(MADE)
    assert found is not None
    assert found[0] == SIZE < len(MADE) // 10
    assert contents(MADE + bytes(1 << 20)) == found


def test_of_its_two_states_the_newer_whole_one_counts() -> None:
    one, two = leaf(2, (b"a", b"1")), leaf(3, (b"a", b"1"), (b"b", b"22"))
    assert [contents(paged(meta(2, 7), meta(3, newer), one, two))[0] for newer in (6, 8)] == [2, 5]  # type: ignore[index]
    torn = paged(meta(2, 7), meta(3, 8)[:40], one, two)
    assert contents(torn) == contents(paged(meta(2, 7), meta(2, 6), one))


@pytest.mark.parametrize(
    "text",
    [
        b"", bytes(16) + b"\xed\xda\x0c\xed" + bytes(5000), paged(meta(2, 1), meta(2, 2)),
        paged(meta(2, 1), meta(2, 2), leaf(9, (b"a", b"1"))),
        paged(meta(2, 1), meta(2, 2), leaf(2, (b"a", b"1"), count=60_000)),
        paged(meta(2, 1), meta(2, 2), struct.pack("<QHHI", 2, 1, 1, 0) + struct.pack("<IIQ", 0, 0, 2)),  # leads to itself
        paged(meta(2, 1), meta(2, 2), struct.pack("<QHHI", 2, 1, 200, 0) + struct.pack("<IIQ", 0, 0, 2) * 200),
        paged(meta(2, 1), meta(2, 2), struct.pack("<QHHI", 2, 2, 1, 0xFFFFFFFF)),
        paged(meta(2, 1), meta(2, 2), struct.pack("<QHHI", 2, 2, 1, 0) + struct.pack("<4I", 0, 16, 1, 0xFFFFFF)),
    ],
)  # fmt: skip
def test_what_is_no_such_file_inside_is_not_counted_and_has_an_end(text: bytes) -> None:
    assert contents(text) is None


def test_what_changes_while_it_is_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [paged(meta(2, one), meta(2, one), leaf(2, (b"a", b"x" * one))) for one in (1, 2, 3)]
    left = iter(states)
    text = next(left)

    def read(size: int, at: int) -> bytes:
        nonlocal text
        found = text[at : at + size]
        text = next(left, text) if at == 2 * PAGE else text
        return found

    assert boltfile.contents(read) == contents(states[2])


def test_a_volume_and_a_backup_say_the_same_of_one(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "keys.db").write_bytes(MADE)
    found = counting.contents(tmp_path / "volume", {}, ())["keys.db"]
    assert (found.bytes, found.kind) == (SIZE, "bolt")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("copy")
        entry.size = len(MADE)
        archive.addfile(entry, io.BytesIO(MADE))
    assert members(tmp_path / "a.tar", ()) == Members({found}, {found})
