import Crypto
import FoundationEssentials
import LinuxSystem
import SwiftASN1
import X509

/// The cluster's certificate authority, whose key exists on one host: the one where `smirun cluster init` ran.
package struct CertificateAuthority: Sendable {
    /// The certificate that all hosts of the cluster trust.
    package let certificate: Certificate
    private let key: Certificate.PrivateKey

    /// Ten years; there is no renewal: a new authority is a new cluster.
    package static let lifetime: TimeInterval = 10 * 365 * 86400
    /// One year; `smirun host join` with a new token renews.
    package static let hostLifetime: TimeInterval = 365 * 86400
    /// Clocks of hosts may differ by this much before a fresh certificate is refused.
    static let clockSkew: TimeInterval = 300

    /// Makes a new authority with a P-256 key.
    package static func create(now: Date = Date()) throws -> CertificateAuthority {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let serial = Certificate.SerialNumber()
        let name = try DistinguishedName {
            OrganizationName("smirun")
            CommonName("smirun cluster \(serial.bytes.prefix(4).hexadecimal)")
        }
        let certificate = try Certificate(
            version: .v3,
            serialNumber: serial,
            publicKey: key.publicKey,
            notValidBefore: now - clockSkew,
            notValidAfter: now + lifetime,
            issuer: name,
            subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: key.publicKey)
            },
            issuerPrivateKey: key
        )
        return CertificateAuthority(certificate: certificate, key: key)
    }

    /// Signs a host's key; `host` is the only name that goes into the certificate, whatever the request said.
    package func issue(
        host: String,
        publicKey: Certificate.PublicKey,
        now: Date = Date()
    ) throws -> Certificate {
        try HostName.check(host)
        return try sign(host, publicKey, usages: [.serverAuth, .clientAuth], lifetime: Self.hostLifetime, now: now)
    }

    /// A certificate and key for a new host, made in one place: for the first host and for the lab.
    package func makeIdentity(host: String, now: Date = Date()) throws -> HostIdentity {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let own = try issue(host: host, publicKey: key.publicKey, now: now)
        return try HostIdentity(chain: [own, certificate], key: key)
    }

    /// The identity that the enrolment listener shows: no host can have its name.
    package func makeEnrolmentIdentity(now: Date = Date()) throws -> HostIdentity {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let own = try sign(
            HostName.enrolment,
            key.publicKey,
            usages: [.serverAuth],
            lifetime: Self.hostLifetime,
            now: now
        )
        return try HostIdentity(chain: [own, certificate], key: key)
    }

    private func sign(
        _ name: String,
        _ publicKey: Certificate.PublicKey,
        usages: [ExtendedKeyUsage.Usage],
        lifetime: TimeInterval,
        now: Date
    ) throws -> Certificate {
        try Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: publicKey,
            notValidBefore: now - Self.clockSkew,
            notValidAfter: min(now + lifetime, certificate.notValidAfter),
            issuer: certificate.subject,
            subject: try DistinguishedName { CommonName(name) },
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage(usages)
                SubjectAlternativeNames([.dnsName(name)])
                SubjectKeyIdentifier(hash: publicKey)
                AuthorityKeyIdentifier(keyIdentifier: keyIdentifier)
            },
            issuerPrivateKey: key
        )
    }

    private var keyIdentifier: ArraySlice<UInt8>? {
        try? certificate.extensions.subjectKeyIdentifier?.keyIdentifier
    }

    /// Whether a directory holds an authority's key.
    package static func exists(in directory: String) -> Bool {
        PrivateFile.exists(directory + "/ca.key")
    }

    /// Reads `ca.pem` and `ca.key`.
    package static func load(from directory: String) throws(OrchestratorError) -> CertificateAuthority {
        do {
            let certificate = try Certificate(pemEncoded: PrivateFile.read(directory + "/ca.pem"))
            let key = try Certificate.PrivateKey(pemEncoded: PrivateFile.read(directory + "/ca.key"))
            guard certificate.publicKey == key.publicKey else {
                throw OrchestratorError(
                    .notAMember,
                    cause: "the cluster's authority in \(directory) has a key that is not its own",
                    remedy: "restore the directory pki from a backup"
                )
            }
            return CertificateAuthority(certificate: certificate, key: key)
        } catch let error as OrchestratorError {
            throw error
        } catch {
            throw OrchestratorError(
                .notAMember,
                cause: "the cluster's authority in \(directory) cannot be read: \(error)",
                remedy: "run this on the host where `smirun cluster init` ran"
            )
        }
    }

    /// Writes `ca.pem` and `ca.key`, mode 0600 in a directory of mode 0700; refuses to replace an authority.
    package func save(to directory: String) throws {
        guard !Self.exists(in: directory) else {
            throw OrchestratorError(
                .badArgument,
                cause: "\(directory) holds the authority of a cluster already",
                remedy: "remove the directory first if that cluster is given up"
            )
        }
        try PrivateFile.makeDirectory(directory)
        try PrivateFile.write(directory + "/ca.pem", certificate.serializeAsPEM().pemString + "\n")
        try PrivateFile.write(directory + "/ca.key", key.serializeAsPEM().pemString + "\n")
    }
}
