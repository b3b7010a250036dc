#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// An IP address as 128 bits, IPv4 in the mapped form `::ffff:a.b.c.d`, so that both families share one table.
package struct IPAddress: Hashable, Sendable {
    package let bits: UInt128

    /// `bytes`: 4 or 16 bytes in network order; nil for any other count.
    package init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: bits = bytes.reduce(0xffff) { $0 << 8 | UInt128($1) }
        case 16: bits = bytes.reduce(0) { $0 << 8 | UInt128($1) }
        default: return nil
        }
    }

    /// Reads dotted IPv4 or colon IPv6 notation.
    package init?(_ text: String) {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(bytes: withUnsafeBytes(of: &four) { Array($0) })
            return
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        self.init(bytes: withUnsafeBytes(of: &six) { Array($0) })
    }
}

/// An address with a prefix length, such as `10.0.0.0/8`, `fd00::/16` or a single address.
package struct IPPrefix: Hashable, Sendable {
    /// The network, host bits zero.
    package let network: UInt128
    /// 0…128; an IPv4 prefix counts from 96.
    package let length: Int

    /// Reads `ADDRESS` or `ADDRESS/LENGTH`.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = IPAddress(String(parts[0])) else { return nil }
        let base = parts[0].contains(":") ? 0 : 96
        if parts.count == 2 {
            guard let bits = Int(parts[1]), (0...128 - base).contains(bits) else { return nil }
            length = base + bits
        } else {
            length = 128
        }
        network = Self.mask(address.bits, length)
    }

    static func mask(_ bits: UInt128, _ length: Int) -> UInt128 {
        length == 0 ? 0 : bits & (UInt128.max << UInt128(128 - length))
    }
}

/// Values by prefix; the longest prefix that holds an address wins.
package struct IPPrefixTable<Value: Sendable>: Sendable {
    private var tables: [(length: Int, entries: [UInt128: Value])] = []

    package init() {}

    /// Adds or replaces the value of a prefix.
    package mutating func insert(_ value: Value, at prefix: IPPrefix) {
        if let index = tables.firstIndex(where: { $0.length == prefix.length }) {
            tables[index].entries[prefix.network] = value
            return
        }
        tables.append((prefix.length, [prefix.network: value]))
        tables.sort { $0.length > $1.length }
    }

    /// The value for an address; nil where no prefix holds it.
    package func lookup(_ address: IPAddress) -> Value? {
        for (length, entries) in tables {
            if let value = entries[IPPrefix.mask(address.bits, length)] { return value }
        }
        return nil
    }
}
