import Mobility
import TOMLKit

/// The keys of the sections about roaming; nil: any key.
enum RoamingKeys {
    static let sections: Set<String> = ["radius", "hostapd", "mec", "stations", "aps", "roaming"]

    static func known(_ path: String) -> Set<String>? {
        switch path {
        case "radius": ["listen", "clients"]
        case "radius.clients": ["address", "secret", "ap"]
        case "hostapd": ["sockets", "identity", "directory"]
        case "hostapd.sockets": ["path", "ap"]
        case "mec": ["listen", "token", "limit", "subscribers"]
        case "mec.subscribers": ["url", "token"]
        case "roaming": ["reorder", "grace", "unknown"]
        default: nil
        }
    }
}

extension HostConfiguration {
    /// Reads the sections about roaming; docs/roaming-events.md describes them.
    static func roaming(_ table: TOMLTable, _ name: String) throws -> RoamingSourcesConfiguration {
        let chosen = TOMLTable()
        for section in table.keys where RoamingKeys.sections.contains(section) {
            guard let part = table[section]?.table else { throw bad(name, "has '\(section)', which must be a section") }
            try checkKeys(of: part, at: section, name)
            for key in ["reorder", "grace"] where section == "roaming" {
                // A number of seconds may be written without a point.
                if let whole = part[key]?.int { part[key] = Double(whole) }
            }
            chosen[section] = part
        }
        do {
            return try TOMLDecoder().decode(RoamingSourcesConfiguration.self, from: chosen)
        } catch let error as DecodingError {
            throw bad(name, describe(error))
        } catch {
            throw bad(name, "cannot be used: \(error)")
        }
    }

    private static func checkKeys(of table: TOMLTable, at path: String, _ name: String) throws {
        guard let known = RoamingKeys.known(path) else { return }
        for key in table.keys {
            guard known.contains(key) else { throw bad(name, "has the unknown key '\(path).\(key)'") }
            guard let list = table[key]?.array else { continue }
            for element in list {
                guard let entry = element.table else {
                    throw bad(name, "\(path).\(key) must be tables, [[\(path).\(key)]]")
                }
                try checkKeys(of: entry, at: "\(path).\(key)", name)
            }
        }
    }

    private static func describe(_ error: DecodingError) -> String {
        func path(_ keys: [any CodingKey]) -> String {
            keys.filter { $0.intValue == nil }.map(\.stringValue).joined(separator: ".")
        }
        return switch error {
        case .keyNotFound(let key, let context): "lacks the key '\(path(context.codingPath + [key]))'"
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
            "has a value that cannot be used at '\(path(context.codingPath))': \(context.debugDescription)"
        @unknown default: "cannot be used: \(error)"
        }
    }
}
