import Crypto
import FoundationEssentials

/// What an operator carries from the cluster to a new host: one string, `smi1.…`, good for one host.
///
/// It names the enrolment listener and the authority's fingerprint, so that the new host knows whom it talks to, and
/// holds a random secret, so that the cluster knows that an operator sent the host.
package struct JoinToken: Sendable, Equatable {
    /// 8 bytes that name the token, in hexadecimal.
    package let id: String
    /// 16 random bytes; the cluster keeps their hash only.
    package let secret: [UInt8]
    /// SHA-256 of the authority's certificate.
    package let fingerprint: [UInt8]
    /// The enrolment listener.
    package let address: PeerAddress

    private static let prefix = "smi1."
    private static let checksumLength = 4
    private static let fixedLength = 8 + 16 + 32 + 2

    /// Makes a token with a fresh secret.
    package init(fingerprint: [UInt8], address: PeerAddress) {
        var generator = SystemRandomNumberGenerator()
        let random = (0..<24).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        self.id = random[..<8].hexadecimal
        self.secret = Array(random[8...])
        self.fingerprint = fingerprint
        self.address = address
    }

    /// Reads a token as printed; blanks around it do not matter.
    ///
    /// - Throws: `OrchestratorError` (`badArgument`) for anything that is not a whole token.
    package init(parsing text: String) throws(OrchestratorError) {
        let bytes = try Self.decode(text)
        let body = bytes.dropLast(Self.checksumLength)
        guard body.count > Self.fixedLength, bytes.suffix(Self.checksumLength).elementsEqual(Self.checksum(body))
        else { throw Self.malformed }
        self.id = body[..<8].hexadecimal
        self.secret = Array(body[8..<24])
        self.fingerprint = Array(body[24..<56])
        self.address = PeerAddress(String(decoding: body[58...], as: UTF8.self), Int(body[56]) << 8 | Int(body[57]))
    }

    /// The token as printed.
    package var text: String {
        var body: [UInt8] = []
        body += Self.bytes(ofHexadecimal: id)
        body += secret
        body += fingerprint
        body += [UInt8(address.port >> 8 & 255), UInt8(address.port & 255)]
        body += Array(address.host.utf8)
        let encoded = Data(body + Self.checksum(body[...])).base64EncodedString()
        let urlSafe = encoded.map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 }
        return Self.prefix + String(urlSafe).prefix { $0 != "=" }
    }

    /// What the cluster keeps of a secret; 128 random bits need no slow hash.
    package static func hash(_ secret: [UInt8]) -> String {
        Array(SHA256.hash(data: secret)).hexadecimal
    }

    private static let malformed = OrchestratorError(
        .badArgument,
        cause: "this is not a whole join token",
        remedy: "copy the whole line that `smirun cluster token` printed; it begins with \(prefix)"
    )

    private static func decode(_ text: String) throws(OrchestratorError) -> [UInt8] {
        let trimmed = text.split(whereSeparator: \.isWhitespace)
        guard trimmed.count == 1, let word = trimmed.first, word.hasPrefix(prefix) else { throw malformed }
        var encoded = String(word.dropFirst(prefix.count).map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
        encoded += String(repeating: "=", count: (4 - encoded.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: encoded) else { throw malformed }
        return Array(data)
    }

    /// Finds slips of copying before anything is sent.
    private static func checksum(_ body: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        Array(SHA256.hash(data: body))[..<checksumLength]
    }

    private static func bytes(ofHexadecimal text: String) -> [UInt8] {
        let digits = text.utf8.map { UInt8($0 >= 97 ? $0 - 87 : $0 - 48) }
        return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
