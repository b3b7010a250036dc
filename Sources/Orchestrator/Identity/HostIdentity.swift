import Crypto
import FoundationEssentials
import LinuxSystem
import SwiftASN1
import X509

/// Who a host is to the others: its certificate, its key, and the authority that all of the cluster trust.
package struct HostIdentity: Sendable {
    /// The host's name, as in its certificate.
    package let host: String
    /// The host's own certificate first, the authority's last.
    package let chain: [Certificate]
    /// The cluster's authority.
    package let authority: Certificate
    /// Belongs to the first certificate of the chain; never leaves the host.
    package let key: Certificate.PrivateKey

    /// Puts an identity together and checks that its parts belong together.
    package init(chain: [Certificate], key: Certificate.PrivateKey) throws(OrchestratorError) {
        guard let own = chain.first, let authority = chain.last, chain.count > 1,
            own.publicKey == key.publicKey, let host = own.hostName
        else {
            throw OrchestratorError(
                .notAMember,
                cause: "the host's certificate and key do not belong together",
                remedy: "remove the directory pki and join the cluster again"
            )
        }
        self.host = host
        self.chain = chain
        self.authority = authority
        self.key = key
    }

    /// SHA-256 of the authority's certificate: the identity of the cluster.
    package var cluster: String { authority.fingerprint.hexadecimal }

    /// Reads `host.pem` and `host.key`.
    ///
    /// - Throws: `OrchestratorError` (`notAMember`) where the host has not joined a cluster.
    package static func load(from directory: String) throws(OrchestratorError) -> HostIdentity {
        guard PrivateFile.exists(directory + "/host.pem") else {
            throw OrchestratorError(
                .notAMember,
                cause: "this host belongs to no cluster (no certificate in \(directory))",
                remedy: "run `smirun cluster init` here, or `smirun host join TOKEN` with a token of a cluster"
            )
        }
        do {
            let documents = try PEMDocument.parseMultiple(pemString: PrivateFile.read(directory + "/host.pem"))
            let chain = try documents.map { try Certificate(pemDocument: $0) }
            let key = try Certificate.PrivateKey(pemEncoded: PrivateFile.read(directory + "/host.key"))
            return try HostIdentity(chain: chain, key: key)
        } catch let error as OrchestratorError {
            throw error
        } catch {
            throw OrchestratorError(
                .notAMember,
                cause: "the host's certificate in \(directory) cannot be read: \(error)",
                remedy: "remove the directory and join the cluster again"
            )
        }
    }

    /// Writes `host.pem` and `host.key`, mode 0600 in a directory of mode 0700.
    package func save(to directory: String) throws {
        try PrivateFile.makeDirectory(directory)
        try PrivateFile.write(directory + "/host.key", key.serializeAsPEM().pemString + "\n")
        let chain = try chain.map { try $0.serializeAsPEM().pemString }.joined(separator: "\n")
        try PrivateFile.write(directory + "/host.pem", chain + "\n")
    }
}

extension Certificate {
    /// The host that the certificate was issued to: its only DNS name.
    package var hostName: String? {
        guard let names = try? extensions.subjectAlternativeNames, names.count == 1,
            case .dnsName(let name) = names.first
        else { return nil }
        return name
    }

    /// The certificate as sent and stored.
    package var der: [UInt8] {
        var serializer = DER.Serializer()
        do {
            try serializer.serialize(self)
        } catch {
            // A certificate keeps the bytes it was parsed from or signed over; writing them cannot fail.
            return []
        }
        return serializer.serializedBytes
    }

    /// SHA-256 of the whole certificate.
    package var fingerprint: [UInt8] { Array(SHA256.hash(data: der)) }
}

extension Collection<UInt8> {
    /// Two lower-case digits a byte.
    package var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
