/// What hostapd, or whoever has its socket, may send: datagrams apart by NUL, time passing between them.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHostapd(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    let bytes = UnsafeBufferPointer(start: data, count: size)
    var session = HostapdSession(accessPoint: nil, nas: "/run/hostapd/w0", now: 0)
    var normalizer = RoamingNormalizer(directory: RoamingDirectory(stations: ["02:00:00:00:05:01": "ann"]))
    var now = 0.0
    var unanswered = 0
    func perform(_ effects: [HostapdSession.Effect]) {
        for effect in effects {
            switch effect {
            case .send: unanswered += 1
            case .event(let event): check(normalizer.on(event, now: now))
            case .count, .attached, .lost: break
            }
        }
    }
    perform(session.start(now: now))
    for datagram in bytes.split(separator: 0, omittingEmptySubsequences: false) {
        now += Double(datagram.count % 8)
        unanswered = 0
        perform(session.receive(Array(datagram), now: now))
        perform(session.tick(now: now))
        require(unanswered <= 2, "one command at a time")
    }
    perform(session.end())
    check(normalizer.finish())
    return 0
}
