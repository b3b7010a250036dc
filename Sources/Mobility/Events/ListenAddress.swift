/// `HOST:PORT` as written in the configuration; IPv6 hosts in brackets.
package struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    package var host: String
    package var port: Int

    /// Reads `0.0.0.0:1813`, `[::]:1813` or `:1813` (every IPv4 address).
    ///
    /// Throws `RoamingError` naming the configuration key.
    package init(_ text: String, key: String) throws(RoamingError) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65_535).contains(port)
        else {
            throw RoamingError(
                .configuration,
                cause: "\(key): '\(text)' is not HOST:PORT",
                remedy: "write for example \(key) = \"0.0.0.0:1813\""
            )
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        self.host = host.isEmpty ? "0.0.0.0" : host
        self.port = port
    }

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
