import Crypto
import FoundationEssentials
import GRPCCore
import NIOCore
import NIOSSL
import SwiftASN1
import X509

/// The cluster's end of joining; runs on the host that has the authority's key, behind an enrolment listener.
package struct EnrolmentService: Smirun_V1_Enroll.SimpleServiceProtocol {
    private let authority: CertificateAuthority
    private let tokens: JoinTokens
    /// Called with a new host's name and address; returns what it needs to know of the cluster, JSON.
    package typealias Welcome = @Sendable (_ host: String, _ address: String) async throws -> [UInt8]
    private let welcome: Welcome
    private let now: @Sendable () -> Date

    /// A service that signs for hosts with a token.
    package init(
        authority: CertificateAuthority,
        tokens: JoinTokens,
        now: @escaping @Sendable () -> Date = { Date() },
        welcome: @escaping Welcome
    ) {
        self.authority = authority
        self.tokens = tokens
        self.welcome = welcome
        self.now = now
    }

    package func join(request: Smirun_V1_JoinRequest, context: ServerContext) async throws -> Smirun_V1_JoinReply {
        do {
            let accepted = try await accept(request)
            return .with { $0.accepted = accepted }
        } catch {
            return .with { $0.failure = OrchestratorError(error, calling: "the cluster").message }
        }
    }

    private func accept(_ request: Smirun_V1_JoinRequest) async throws -> Smirun_V1_JoinAccepted {
        _ = try ProtocolVersion.current.agree(with: ProtocolVersion(request.protocol), at: "the new host")
        try HostName.check(request.host)
        let publicKey = try Self.publicKey(of: Array(request.signingRequest), host: request.host)
        try await tokens.redeem(
            id: request.tokenID,
            secret: Array(request.tokenSecret),
            host: request.host,
            keyHash: publicKey.hash
        )
        let own = try authority.issue(host: request.host, publicKey: publicKey, now: now())
        let configuration = try await welcome(request.host, request.address)
        return .with {
            $0.certificates = [Data(own.der), Data(authority.certificate.der)]
            $0.configuration = Data(configuration)
        }
    }

    /// The key to sign, after the proof that the caller has its private half and means this host.
    private static func publicKey(
        of bytes: [UInt8],
        host: String
    ) throws(OrchestratorError) -> Certificate.PublicKey {
        guard let request = try? CertificateSigningRequest(derEncoded: bytes),
            let subject = try? DistinguishedName(builder: { CommonName(host) }), request.subject == subject,
            request.publicKey.isValidSignature(request.signature, for: request),
            P256.Signing.PublicKey(request.publicKey) != nil
        else {
            throw OrchestratorError(
                .badArgument,
                cause: "the signing request of host '\(host)' is not valid",
                remedy: "run the same version of smirun on all hosts"
            )
        }
        return request.publicKey
    }
}

/// A new host's end of joining.
package enum Enrolment {
    /// Asks the cluster for a certificate.
    ///
    /// The private key is made here and stays here. The listener is verified against the token's fingerprint before the
    /// token's secret is sent.
    ///
    /// `address` is where other daemons will reach this host, as `address:port`; `key` is given again where an earlier
    /// attempt may have succeeded without our knowing. Returns the identity, not yet saved, and what
    /// `EnrolmentService.Welcome` returned. Throws `OrchestratorError`: `tokenRefused`, `hostNameTaken`, `version`, or
    /// `hostDown` where the cluster cannot be reached or is not the token's.
    package static func join(
        _ token: JoinToken,
        host: String,
        address: String,
        build: String,
        key: P256.Signing.PrivateKey = P256.Signing.PrivateKey(),
        limits: ConnectionLimits = ConnectionLimits()
    ) async throws(OrchestratorError) -> (identity: HostIdentity, configuration: [UInt8]) {
        try HostName.check(host)
        let name = "the cluster (\(token.address.host) port \(token.address.port))"
        let link: ClientLink
        let request: Smirun_V1_JoinRequest
        let key = Certificate.PrivateKey(key)
        do {
            request = try signingRequest(token, host, address, build, key)
            link = try ClientLink.joining(token.address, limits: limits) { shown, verdict in
                judge(shown, fingerprint: token.fingerprint, verdict)
            }
        } catch {
            throw OrchestratorError(error, calling: name)
        }
        do {
            // The greeting first: it tells an outdated version before the token is used.
            let own = Greeting(host: host, build: build, cluster: "")
            let greeting = try await link.greet(own, limit: limits.connect)
            _ = try own.protocolVersion.agree(with: greeting.protocolVersion, at: name)
            let reply = try await Smirun_V1_Enroll.Client(wrapping: link.client)
                .join(request, options: .limited(limits.call))
            await link.close(grace: .milliseconds(200))
            return try accepted(reply, key, token)
        } catch {
            await link.close(grace: .zero)
            throw link.explain(error, name: name)
        }
    }

    private static func signingRequest(
        _ token: JoinToken,
        _ host: String,
        _ address: String,
        _ build: String,
        _ key: Certificate.PrivateKey
    ) throws -> Smirun_V1_JoinRequest {
        let signing = try CertificateSigningRequest(
            version: .v1,
            subject: DistinguishedName { CommonName(host) },
            privateKey: key,
            attributes: CertificateSigningRequest.Attributes([])
        )
        let der = try signing.serializeAsPEM().derBytes
        return .with {
            $0.protocol = ProtocolVersion.current.message
            $0.tokenID = token.id
            $0.tokenSecret = Data(token.secret)
            $0.host = host
            $0.address = address
            $0.signingRequest = Data(der)
            $0.build = build
        }
    }

    private static func accepted(
        _ reply: Smirun_V1_JoinReply,
        _ key: Certificate.PrivateKey,
        _ token: JoinToken
    ) throws -> (HostIdentity, [UInt8]) {
        switch reply.outcome {
        case .accepted(let accepted):
            let chain = try accepted.certificates.map { try Certificate(derEncoded: Array($0)) }
            let identity = try HostIdentity(chain: chain, key: key)
            guard identity.authority.fingerprint == token.fingerprint else { throw Self.unexpected }
            return (identity, Array(accepted.configuration))
        case .failure(let failure): throw OrchestratorError(failure)
        case nil: throw unexpected
        }
    }

    private static let unexpected = OrchestratorError(
        .version,
        cause: "the cluster's answer cannot be understood",
        remedy: "run the same version of smirun on all hosts"
    )

    /// Accepts a listener whose chain ends at the authority with the token's fingerprint and that bears the name that
    /// only the authority's own host can have.
    private static func judge(
        _ shown: [NIOSSLCertificate],
        fingerprint: [UInt8],
        _ verdict: EventLoopPromise<NIOSSLVerificationResult>
    ) {
        let chain = shown.compactMap { try? Certificate(derEncoded: $0.toDERBytes()) }
        guard let own = chain.first, let authority = chain.first(where: { $0.fingerprint == fingerprint }) else {
            return verdict.succeed(.failed)
        }
        verdict.completeWithTask {
            var verifier = Verifier(rootCertificates: CertificateStore([authority])) {
                RFC5280Policy()
                ServerIdentityPolicy(serverHostname: HostName.enrolment, serverIP: nil)
            }
            switch await verifier.validate(leaf: own, intermediates: CertificateStore()) {
            case .validCertificate: return .certificateVerified
            case .couldNotValidate: return .failed
            }
        }
    }
}

extension Certificate.PublicKey {
    /// SHA-256 of the key's DER form.
    var hash: String {
        let der = (try? serializeAsPEM().derBytes) ?? []
        return Array(SHA256.hash(data: der)).hexadecimal
    }
}
