/// Bodies of MEC notifications, apart by NUL.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzMEC(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    let bytes = UnsafeBufferPointer(start: data, count: size)
    var translator = MECTranslator(limit: 1000)
    var normalizer = RoamingNormalizer(directory: RoamingDirectory(stations: ["02:00:00:00:05:01": "ann"]))
    var now = 1_700_000_000.0
    for body in bytes.split(separator: 0) {
        now += 1
        guard let notification = try? MECNotification.read(Array(body)) else { continue }
        for event in translator.translate(notification, received: now) ?? [] {
            check(normalizer.on(event, now: now))
        }
        require((0...1000).contains(translator.remembered), "what is remembered is bounded")
    }
    check(normalizer.finish())
    return 0
}
