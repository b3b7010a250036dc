/// An unsolicited message of a hostapd control socket.
package enum HostapdMessage: Sendable, Hashable {
    /// A station is authorised (`AP-STA-CONNECTED`).
    case connected(MACAddress)
    /// A station is gone (`AP-STA-DISCONNECTED`).
    case disconnected(MACAddress)
    /// hostapd ends (`CTRL-EVENT-TERMINATING`), and with it all its associations.
    case terminating
    /// Anything else that hostapd tells.
    case other

    /// Reads `<3>AP-STA-CONNECTED 02:00:00:00:01:00 auth_alg=open keyid=…`, also behind an `IFNAME=wlan0 ` prefix.
    ///
    /// Nil for bytes that are no unsolicited message: answers, and what nobody should have sent.
    package init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count <= HostapdSession.maximumMessage else { return nil }
        var text = String(decoding: bytes, as: UTF8.self)[...]
        if text.hasPrefix("IFNAME=") {
            guard let space = text.firstIndex(of: " ") else { return nil }
            text = text[text.index(after: space)...]
        }
        guard text.first == "<", let close = text.firstIndex(of: ">") else { return nil }
        let level = text[text.index(after: text.startIndex)..<close]
        guard (1...2).contains(level.utf8.count), level.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        let words = text[text.index(after: close)...].split(whereSeparator: \.isWhitespace)
        switch words.first {
        case "AP-STA-CONNECTED":
            guard words.count > 1, let station = MACAddress(words[1]) else { return nil }
            self = .connected(station)
        case "AP-STA-DISCONNECTED":
            guard words.count > 1, let station = MACAddress(words[1]) else { return nil }
            self = .disconnected(station)
        case "CTRL-EVENT-TERMINATING":
            self = .terminating
        default:
            self = .other
        }
    }
}

/// What hostapd answers about a station (`STA`, `STA-FIRST`, `STA-NEXT`).
package struct HostapdStation: Sendable, Hashable {
    package var address: MACAddress
    /// Whether it may use the network, which is when AP-STA-CONNECTED is sent.
    package var isAuthorized: Bool
    /// The EAP identity, where 802.1X is used.
    package var identity: String?
    /// Seconds since it associated.
    package var connectedSeconds: Double?

    /// Reads an answer; nil where it names no station (`FAIL`, or the empty end of the list).
    package init?(answer: String) {
        let lines = answer.split(whereSeparator: \.isNewline)
        guard let first = lines.first, let address = MACAddress(first) else { return nil }
        self.address = address
        isAuthorized = false
        for line in lines.dropFirst() {
            let value = line.drop { $0 != "=" }.dropFirst()
            if line.hasPrefix("flags=") {
                isAuthorized = value.contains("[AUTHORIZED]")
            } else if line.hasPrefix("dot1xAuthSessionUserName="), !value.isEmpty {
                identity = String(value)
            } else if line.hasPrefix("connected_time=") {
                connectedSeconds = Int32(value).map { Double(max(0, $0)) }
            }
        }
    }
}
