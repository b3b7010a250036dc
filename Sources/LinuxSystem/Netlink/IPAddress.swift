import Glibc

/// An IPv4 or IPv6 address in network byte order.
package struct IPAddress: Sendable, Hashable, CustomStringConvertible {
    /// 4 or 16 bytes.
    package let bytes: [UInt8]

    /// Parses the usual notation; nil for anything else.
    package init?(_ text: String) {
        var v4 = in_addr()
        var v6 = in6_addr()
        if inet_pton(AF_INET, text, &v4) == 1 {
            bytes = withUnsafeBytes(of: v4) { Array($0) }
        } else if inet_pton(AF_INET6, text, &v6) == 1 {
            bytes = withUnsafeBytes(of: v6) { Array($0) }
        } else {
            return nil
        }
    }

    /// Whether the address is of version 6.
    package var isIPv6: Bool { bytes.count == 16 }
    /// AF_INET or AF_INET6, as netlink has it.
    var family: UInt8 { UInt8(isIPv6 ? AF_INET6 : AF_INET) }
    /// Length of a prefix that names one host.
    package var hostPrefix: UInt8 { UInt8(bytes.count * 8) }

    /// The usual notation.
    package var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(Int32(family), bytes, &text, socklen_t(text.count)) != nil else { return "?" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
