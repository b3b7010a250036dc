/// What an Accounting-Request says, read from its attributes.
package enum RadiusAccounting {
    /// The meaning of a request.
    package enum Reading: Sendable, Hashable {
        /// Something for the normaliser.
        case event(RoamingEvent)
        /// Valid, but not about an association (tunnels, failures): answer and forget.
        case irrelevant
        /// Names no station, no access point or no status: answer, or the peer repeats it for ever.
        case incomplete
    }

    /// Reads a request that is known to be authentic.
    ///
    /// The event's time is Event-Timestamp (attribute 55), else the time of reception minus Acct-Delay-Time
    /// (attribute 41).
    ///
    /// `received`: our clock, seconds since the epoch.
    /// `sender`: address of the peer that sent the datagram, without port: the last resort for naming the NAS.
    package static func read(_ packet: RadiusPacket, received: Double, sender: String) -> Reading {
        typealias Attribute = RadiusAttributeType
        guard let status = packet.integer(Attribute.acctStatusType) else { return .incomplete }
        let kind: RoamingEvent.Kind
        switch status {
        case 1: kind = .associated
        case 2: kind = .disassociated
        case 3: kind = .present
        case 7, 8: kind = .reset
        default: return .irrelevant
        }
        let (names, nas) = accessPoint(packet, sender: sender)
        let delay = Double(packet.integer(Attribute.acctDelayTime) ?? 0)
        let stamp = packet.integer(Attribute.eventTimestamp)
        var event = RoamingEvent(
            kind: kind,
            time: stamp.map(Double.init) ?? received - delay,
            resolution: stamp == nil ? 0 : 1,
            received: received,
            ap: names,
            nas: nas,
            session: packet.text(Attribute.acctSessionId),
            sessionSeconds: packet.integer(Attribute.acctSessionTime).map(Double.init),
            source: .radius
        )
        guard kind != .reset else { return .event(event) }
        guard let calling = packet.text(Attribute.callingStationId) else { return .incomplete }
        event.station = MACAddress(calling)?.description ?? calling
        event.userName = packet.text(Attribute.userName)
        return .event(event)
    }

    /// Names of the access point, best first, and the name of the NAS that speaks for it.
    private static func accessPoint(_ packet: RadiusPacket, sender: String) -> (names: [String], nas: String) {
        typealias Attribute = RadiusAttributeType
        let called = packet.text(Attribute.calledStationId).map(calledNames) ?? []
        let identifier = packet.text(Attribute.nasIdentifier)
        let address = (packet.value(Attribute.nasIPAddress) ?? packet.value(Attribute.nasIPv6Address)).flatMap(
            addressText
        )
        let names = called + [identifier, address].compactMap { $0 }
        return (names.isEmpty ? [sender] : names, identifier ?? address ?? sender)
    }

    /// `AA-BB-CC-DD-EE-FF:SSID` gives the address; anything else the text itself and what precedes its last colon.
    static func calledNames(_ text: String) -> [String] {
        if let address = MACAddress(text) { return [address.description] }
        let bytes = Array(text.utf8)
        for length in [17, 14, 13, 12] where bytes.count > length && bytes[length] == UInt8(ascii: ":") {
            if let address = MACAddress(bytes: bytes[..<length]) { return [address.description] }
        }
        guard let colon = text.lastIndex(of: ":"), colon != text.startIndex else { return [text] }
        return [text, String(text[..<colon])]
    }

    private static func addressText(_ value: ArraySlice<UInt8>) -> String? {
        switch value.count {
        case 4:
            return value.map(String.init).joined(separator: ".")
        case 16:
            let bytes = Array(value)
            return stride(from: 0, to: 16, by: 2)
                .map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }
                .joined(separator: ":")
        default:
            return nil
        }
    }
}
