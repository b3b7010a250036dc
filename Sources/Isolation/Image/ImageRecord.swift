/// One base image of a host.
package struct ImageRecord: Codable, Sendable, Equatable {
    /// What it was called when it was built or imported; empty once another image has taken the name.
    package var name: String
    /// `sha256:` and 64 hexadecimal digits: the digest of the erofs file.
    package var digest: String
    /// Length of the erofs file, bytes.
    package var size: Int64
    /// When it came to this host, seconds since 1970.
    package var created: Int64

    /// A record.
    package init(name: String, digest: String, size: Int64, created: Int64) {
        self.name = name
        self.digest = digest
        self.size = size
        self.created = created
    }

    /// The digest's digits.
    package var hex: String { String(digest.dropFirst(Self.prefix.count)) }

    static let prefix = "sha256:"

    /// The digits of a digest, with or without `sha256:`; nil for anything else, so that no path can be made of it.
    package static func hex(of digest: String) -> String? {
        let digits = digest.hasPrefix(prefix) ? String(digest.dropFirst(prefix.count)) : digest
        let allowed = digits.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        return digits.utf8.count == 64 && allowed ? digits : nil
    }

    /// Whether a string can name an image: letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit.
    package static func isName(_ name: String) -> Bool {
        name.wholeMatch(of: /[a-z0-9][a-z0-9._-]{0,63}/) != nil && hex(of: name) == nil
    }
}
