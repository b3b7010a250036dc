/// Traces: CSV with a header, or JSON lines.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzLines(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    let bytes = UnsafeBufferPointer(start: data, count: size)
    var parser = RoamLineParser()
    var normalizer = RoamingNormalizer()
    for line in bytes.split(separator: 0x0a) {
        guard let read = parser.parse(line) else { continue }
        require(RoamingDirectory.isUser(read.user), "only users are users")
        let event = read.event(received: 5)
        check(normalizer.on(event, now: event.time))
    }
    check(normalizer.finish())
    return 0
}
