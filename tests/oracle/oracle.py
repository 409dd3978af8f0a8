#!/usr/bin/env python3
"""The second opinion: judges what Postern delivered against what a simulated tenant says it sent.

    oracle.py --truth truth.ndjson [--journal export.ndjson] [--sink FILE…] [--tickets FILE]
              [--dead-letters COUNT|FILE] [--at-least-once] [--no-tags]

Shares no code with Postern. It reads the truth file of the simulator, works out by itself which columns
tell the records of each table apart, and looks for each record in the native-format NDJSON that it is given:
an export of the journal (`postern journal export`), files of a file sink, or a read_committed dump of a
Kafka topic (one event per line). Python 3, standard library only.

Judged, for the journal and for the sink files together: every record of the truth exactly once, nothing that
was never sent, no id used twice, no gap, the tags that the tenant's model expects. Judged besides: as many
dead letters as things that cannot be read; no ticket key opened twice (`--tickets`: NDJSON with a `key`).

Prints one line for each thing judged and the first faults; exit code 0 if all is right, 1 if not, 2 if it
could not judge.
"""

import argparse
import json
import sys
from collections import Counter

# The columns that tell a row from others of its table. For mail rows the second list is the revision: a new
# verdict on the same mail is a record of its own.
COLUMNS = {
    "EmailEvents": (
        ["NetworkMessageId", "RecipientEmailAddress", "ReportId", "Timestamp"],
        ["ThreatTypes", "DetectionMethods", "ConfidenceLevel", "OrgLevelAction", "OrgLevelPolicy",
         "UserLevelAction", "UserLevelPolicy", "DeliveryAction", "DeliveryLocation"],
    ),
    "EmailPostDeliveryEvents": (
        ["NetworkMessageId", "RecipientEmailAddress", "Timestamp", "ActionType", "Action", "ReportId"], [],
    ),
    "EmailUrlInfo": (["NetworkMessageId", "ReportId", "Url", "UrlLocation"], []),
    "EmailAttachmentInfo": (
        ["NetworkMessageId", "RecipientEmailAddress", "ReportId", "SHA256", "FileName"], [],
    ),
    "UrlClickEvents": (
        ["ReportId", "Timestamp", "AccountUpn", "ActionType", "IsClickedThrough", "Url"], [],
    ),
    "AlertEvidence": (["AlertId", "EntityType", "EvidenceRole", "MergeByKeyHex"], []),
}
JSON_IN_TEXT = {"DetectionMethods", "ConfidenceLevel"}
ADDRESSES = {"RecipientEmailAddress", "AccountUpn"}
# Hunting writes 0 and 1 where the export writes false and true.
BOOLEANS = {"IsClickedThrough"}
# What is no row of a table: by the event's table, the kind in the truth and the columns of id and revision.
THINGS = {"alerts_v2": ("alert", "id", "lastUpdateDateTime"),
          "incidents": ("incident", "id", "lastUpdateDateTime")}
EXAMPLES = 5


def plain(column, value):
    """A value without the differences that do not matter: case of addresses, spacing of inner JSON."""
    if isinstance(value, str):
        value = value.strip()
        if column in ADDRESSES:
            value = value.lower()
        if column in JSON_IN_TEXT and value:
            try:
                value = json.loads(value)
            except ValueError:
                pass
    if column in BOOLEANS and isinstance(value, int):
        value = bool(value)
    if column == "Timestamp" and isinstance(value, str):
        whole, _, rest = value.rstrip("Z").partition(".")
        value = f"{whole}.{rest.rstrip('0')}Z" if rest.rstrip("0") else f"{whole}Z"
    if isinstance(value, (dict, list)):
        value = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).lower()
    if value is None or value == "" or value == "{}":
        return None
    return value


def key_of(table, row):
    """What tells this row apart, as something that can be a key of a dictionary."""
    row = dict(row)
    if table == "AlertEvidence" and "MergeByKeyHex" not in row:
        try:
            row["MergeByKeyHex"] = json.loads(row.get("AdditionalFields") or "{}").get("MergeByKeyHex")
        except (ValueError, AttributeError):
            pass
        if not row.get("MergeByKeyHex"):
            row.pop("MergeByKeyHex", None)
    identity, revision = COLUMNS.get(table, ([], []))
    whole = not identity or plain(identity[0], row.get(identity[0])) is None
    if table == "AlertEvidence" and not row.get("MergeByKeyHex"):
        whole = True
    columns = sorted(row) if whole else identity + revision
    pairs = ((column, plain(column, row.get(column))) for column in columns)
    return (table, *(pair for pair in pairs if pair[1] is not None))


def lines(path):
    """The JSON objects of a file, with their line numbers."""
    with (sys.stdin.buffer if path == "-" else open(path, "rb")) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise SystemExit2(f"{path}:{number}: not JSON: {error}") from error


class SystemExit2(Exception):
    """It cannot be judged."""


def read_truth(path):
    records, poison, end = {}, 0, None
    things = {}
    for number, line in lines(path):
        if "record" in line:
            key = key_of(line["record"], line["identity"])
            if key in records:
                raise SystemExit2(f"{path}:{number}: the truth names this record twice")
            records[key] = line
        elif "poison" in line:
            poison += 1
        elif "shown" in line and "id" in line:
            things.setdefault((line["shown"], line["id"]), []).append(line["revision"])
        elif "end" in line:
            end = line["end"]
    if end is None:
        raise SystemExit2(f"{path}: the truth is not complete, its last line is missing")
    if end["records"] != len(records) or end["poison"] != poison:
        raise SystemExit2(f"{path}: the truth contradicts itself: {end}, but {len(records)} records")
    return records, poison, things


class Faults:
    """Counts faults and keeps the first few of each sort."""

    def __init__(self):
        self.counts, self.examples = Counter(), []

    def add(self, sort, text):
        self.counts[sort] += 1
        if self.counts[sort] <= EXAMPLES:
            self.examples.append(f"  {sort}: {text}")


def thing_of(event):
    """Kind, id and revision of what is no row: an alert, an incident, an audit record; else nothing."""
    row, table = event["raw"], event.get("table", "")
    if table in THINGS:
        kind, name, revision = THINGS[table]
        return kind, row.get(name), row.get(revision)
    if table not in COLUMNS and "RecordType" in row and "Id" in row:
        return "activity", row["Id"], ""
    return None


def judge_things(name, seen, things, options, faults):
    """The last revision of each thing, no revision twice, nothing that was never shown. Of a thing that changes
    an API shows only the newest revision, so those before it may be missing. A kind of which nothing arrived at
    all was not asked for."""
    kinds = {kind for kind, _, _ in seen}
    for (kind, thing, revision), count in seen.items():
        if revision not in things.get((kind, thing), []):
            faults.add("never shown", f"{kind} {thing} {revision}")
        if count > 1 and not options.at_least_once:
            faults.add("more than once", f"{count} times {kind} {thing} {revision}")
    for (kind, thing), revisions in things.items():
        if kind in kinds and (kind, thing, revisions[-1]) not in seen:
            faults.add("lost", f"{kind} {thing} {revisions[-1]}")
    for kind in sorted(kinds):
        arrived = sum(1 for key in seen if key[0] == kind)
        print(f"{name}: {arrived} revisions of {kind} for {sum(1 for key in things if key[0] == kind)} shown")


def judge_events(name, paths, truth, things, options, faults):
    """Every record once, nothing else."""
    seen, ids, events = Counter(), Counter(), 0
    seen_things = Counter()
    allowed = 0
    for path in paths:
        for number, event in lines(path):
            where = f"{path}:{number}"
            if event.get("kind") == "gap":
                faults.add("gap", f"{where} {json.dumps(event.get('raw'))}")
                continue
            if event.get("kind") == "mail.state":
                continue
            events += 1
            ids[event["id"]] += 1
            thing = thing_of(event)
            if thing:
                seen_things[thing] += 1
                continue
            row = event["raw"]
            key = key_of(event.get("table", ""), row)
            expected = truth.get(key)
            if expected is None:
                faults.add("never sent", f"{where} {json.dumps(key)[:300]}")
                continue
            seen[key] += 1
            tags = event.get("tags", [])
            allowed += event.get("table") == "EmailEvents" and "allowed.hc_phish" in tags
            if options.tags and "tags" in expected and sorted(tags) != sorted(expected["tags"]):
                faults.add("tags", f"{where} expected {expected['tags']}, found {tags}")
    judge_things(name, seen_things, things, options, faults)
    for key, line in truth.items():
        if key not in seen:
            faults.add("lost", json.dumps(line)[:300])
    if not options.at_least_once:
        for key, count in seen.items():
            if count > 1:
                faults.add("more than once", f"{count} times {json.dumps(key)[:300]}")
        for event_id, count in ids.items():
            if count > 1:
                faults.add("id used twice", f"{count} times {event_id}")
    expected = sum("allowed" in line for line in truth.values())
    print(f"{name}: {events} events for {len(truth)} records sent; "
          f"allowed high-confidence phish: {allowed} tagged, {expected} in the model")


def judge_dead_letters(given, poison, faults):
    count = int(given) if given.isdecimal() else sum(1 for _ in lines(given))
    if count != poison:
        faults.add("dead letters", f"{count}, but {poison} things were sent that cannot be read")
    print(f"dead letters: {count} for {poison} things that cannot be read")


def judge_tickets(path, faults):
    opened = Counter(line["key"] for _, line in lines(path))
    for key, count in opened.items():
        if count > 1:
            faults.add("ticket opened twice", f"{count} times {key}")
    print(f"tickets: {len(opened)} different ones")


def main():
    parser = argparse.ArgumentParser(description="judges delivered events against the simulator's truth")
    parser.add_argument("--truth", required=True)
    parser.add_argument("--journal", help="native NDJSON of the whole journal")
    parser.add_argument("--sink", nargs="+", default=[], help="native NDJSON of one sink, in any order")
    parser.add_argument("--tickets", help="NDJSON of tickets as the far end has them")
    parser.add_argument("--dead-letters", help="how many, or an NDJSON file with one for each")
    parser.add_argument("--at-least-once", action="store_true", help="repeats are no fault")
    parser.add_argument("--no-tags", dest="tags", action="store_false", help="tags are not judged")
    options = parser.parse_args()
    faults = Faults()
    try:
        truth, poison, things = read_truth(options.truth)
        if options.journal:
            judge_events("journal", [options.journal], truth, things, options, faults)
        if options.sink:
            judge_events("sink", options.sink, truth, things, options, faults)
        if options.dead_letters:
            judge_dead_letters(options.dead_letters, poison, faults)
        if options.tickets:
            judge_tickets(options.tickets, faults)
    except (SystemExit2, OSError, KeyError) as error:
        print(f"cannot judge: {error}", file=sys.stderr)
        return 2
    print("\n".join(faults.examples)) if faults.examples else None
    verdict = ", ".join(f"{count} {sort}" for sort, count in sorted(faults.counts.items()))
    print(f"verdict: {verdict or 'right'}")
    return 1 if faults.counts else 0


if __name__ == "__main__":
    sys.exit(main())
