/// RADIUS datagrams, as if they were authentic: parser, reading of attributes, and the normaliser behind them.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRadius(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    var normalizer = RoamingNormalizer(directory: RoamingDirectory(stations: ["02:00:00:00:05:01": "ann"]))
    var rest = bytes[...]
    var now = 1_700_000_000.0
    // A run of packets, each as long as it says.
    while let packet = try? RadiusPacket(parsing: Array(rest)) {
        let again = RadiusPacket(
            code: packet.code,
            identifier: packet.identifier,
            authenticator: Array(packet.authenticator),
            attributes: packet.attributes.map { ($0.type, Array(packet.bytes[$0.range])) }
        )
        require(again == packet, "a packet that was parsed is built again as it was")
        if case .event(let event) = RadiusAccounting.read(packet, received: now, sender: "192.0.2.1") {
            check(normalizer.on(event, now: now))
        }
        now += 1
        rest = rest.dropFirst(packet.bytes.count)
    }
    check(normalizer.finish())
    return 0
}
