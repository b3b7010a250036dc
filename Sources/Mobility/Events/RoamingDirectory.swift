/// Who and where: from the names that event sources use to access points of the map and users of SMIs.
package struct RoamingDirectory: Sendable {
    /// What a name stands for.
    package enum Resolution: Sendable, Hashable {
        /// In the directory.
        case known(String)
        /// Not in it; the name is the best the source gave.
        case unknown(String)
    }

    private var accessPoints: [String: String] = [:]
    private var stations: [String: String] = [:]
    private var pinnedUsers: Set<String> = []
    /// Whether events of access points that are not in the directory are used, under the name the source gave.
    package let acceptsUnknownAccessPoints: Bool

    /// `names`: names of the access points of the map.
    ///
    /// `aliases`: other names (BSSID, NAS-Identifier, address) to names. `stations`: MAC address, or other name of a
    /// device, to user. A user named here is followed by these devices only. `acceptsUnknownAccessPoints`: nil accepts
    /// them exactly where `names` and `aliases` are empty.
    package init(
        names: some Collection<String> = [String](),
        aliases: [String: String] = [:],
        stations: [String: String] = [:],
        acceptsUnknownAccessPoints: Bool? = nil
    ) {
        for name in names { accessPoints[Self.key(name)] = name }
        for (alias, name) in aliases { accessPoints[Self.key(alias)] = name }
        for name in aliases.values where accessPoints[Self.key(name)] == nil { accessPoints[Self.key(name)] = name }
        for (station, user) in stations { self.stations[Self.key(station)] = user }
        pinnedUsers = Set(stations.values)
        self.acceptsUnknownAccessPoints = acceptsUnknownAccessPoints ?? accessPoints.isEmpty
    }

    /// The access point behind the first of several names that is in the directory; nil where there is no name at all.
    package func accessPoint(_ candidates: [String]) -> Resolution? {
        for name in candidates {
            if let known = accessPoints[name] ?? accessPoints[Self.key(name)] { return .known(known) }
        }
        return candidates.first.map(Resolution.unknown)
    }

    /// The user that a device was given to by the configuration.
    package func user(ofStation station: String) -> String? {
        stations[station] ?? stations[Self.key(station)]
    }

    /// Whether only devices of the configuration may move this user.
    package func isPinned(_ user: String) -> Bool {
        pinnedUsers.contains(user)
    }

    /// The user name in `ann`, `Ann@example.org`, `EXAMPLE\ann`; nil where what is left cannot name an SMI
    /// (`[a-z][a-z0-9-]{0,31}`).
    package static func user(fromIdentity identity: String) -> String? {
        var name = identity[...]
        if let at = name.lastIndex(of: "@") { name = name[..<at] }
        if let slash = name.lastIndex(of: "\\") { name = name[name.index(after: slash)...] }
        let user = name.lowercased()
        guard isUser(user), MACAddress(user) == nil else { return nil }
        return user
    }

    /// Whether a text can name an SMI.
    package static func isUser(_ text: String) -> Bool {
        let bytes = text.utf8
        guard (1...32).contains(bytes.count), let first = bytes.first, (0x61...0x7a).contains(first) else {
            return false
        }
        return bytes.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") }
    }

    /// One spelling for names that differ only in case or in how a MAC address is written.
    private static func key(_ name: String) -> String {
        MACAddress(name)?.description ?? name.lowercased()
    }
}
