/// The normaliser under any sequence of events: four bytes each of kind, user, place, time, session and source.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzEvents(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    guard let first = bytes.first else { return 0 }
    var settings = RoamingNormalizer.Settings()
    settings.reorderWindow = Double(first & 3)
    settings.stopGrace = Double(first >> 2 & 3)
    settings.reorderLimit = 4
    settings.userLimit = 3
    settings.placeLimit = 6
    var normalizer = RoamingNormalizer(settings: settings)
    var now = 1000.0
    var history = History()
    for start in stride(from: 1, through: bytes.count - 4, by: 4) {
        let (what, who, when, more) = (bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3])
        now += Double(more & 3)
        var event = RoamingEvent(
            kind: [.associated, .present, .disassociated, .reset][Int(what & 3)],
            time: now - Double(when & 31) / 2,
            resolution: what & 4 == 0 ? 0 : 1,
            received: now,
            station: "m\(who & 3)",
            userName: what & 8 == 0 ? "u\(who & 3)" : nil,
            ap: ["a\(who >> 2 & 7)"],
            nas: what & 16 == 0 ? nil : "n\(who >> 5 & 1)",
            session: what & 32 == 0 ? nil : "s\(more >> 2 & 7)",
            sessionSeconds: what & 64 == 0 ? nil : Double(when >> 5),
            source: what & 128 == 0 ? .radius : .hostapd
        )
        if when == 255 { event.time = .nan }
        let records = normalizer.on(event, now: now)
        // Who was forgotten begins anew.
        if normalizer.tally[.evictedUsers] > 0 { history = History() }
        history.follow(normalizer.tally[.evictedUsers] > 0 ? [] : records)
    }
    let rest = normalizer.finish()
    history.follow(normalizer.tally[.evictedUsers] > 0 ? [] : rest)
    require(normalizer.userCount <= 3, "users are bounded")
    return 0
}

/// Per user: times never go back, no access point twice in a row, starts after stops only.
private struct History {
    private var last: [String: RoamingRecord] = [:]

    mutating func follow(_ records: [RoamingRecord]) {
        check(records)
        for record in records {
            if let before = last[record.user] {
                require(before.time <= record.time, "times never go back")
                require((record.kind == .start) == (before.kind == .stop), "a start follows a stop")
                require(
                    (record.kind == .stop) == (before.ap == record.ap && before.kind != .stop),
                    "a roam goes elsewhere"
                )
            }
            last[record.user] = record
        }
    }
}
