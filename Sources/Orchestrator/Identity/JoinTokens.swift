import Crypto
import FoundationEssentials

/// The cluster's record of one join token, under `join/<id>`.
struct JoinTokenRecord: Codable, Sendable, Equatable {
    /// SHA-256 of the secret.
    var secretHash: String
    /// Seconds since 1970.
    var expires: Double
    /// The host that used it, once one has.
    var host: String?
    /// SHA-256 of that host's public key: the same host may ask again where the answer was lost.
    var keyHash: String?

    static func key(_ id: String) -> String { "join/" + id }
}

/// What the cluster knows of a host's certificate, under `certificate/<host>`; exists as long as the name is taken.
struct CertificateRecord: Codable, Sendable, Equatable {
    /// The token that the host joined with; empty for the first host.
    var token: String
    /// SHA-256 of the public key.
    var keyHash: String
    /// Seconds since 1970.
    var issued: Double

    static func key(_ host: String) -> String { "certificate/" + host }
}

/// Join tokens and host names as the store keeps them: each token is used once, each name given once.
package struct JoinTokens: Sendable {
    private let store: any ClusterStore
    private let now: @Sendable () -> Date

    /// The registry in a store; `now` is replaced in tests.
    package init(store: any ClusterStore, now: @escaping @Sendable () -> Date = { Date() }) {
        self.store = store
        self.now = now
    }

    /// Makes a token that is good for `lifetime`, and forgets tokens that expired a day ago or earlier.
    package func make(
        authority: CertificateAuthority,
        address: PeerAddress,
        lifetime: Duration = .seconds(3600)
    ) async throws -> JoinToken {
        try await prune()
        let token = JoinToken(fingerprint: authority.certificate.fingerprint, address: address)
        let record = JoinTokenRecord(
            secretHash: JoinToken.hash(token.secret),
            expires: now().timeIntervalSince1970 + Double(lifetime.components.seconds)
        )
        try await store.put(JoinTokenRecord.key(token.id), try encode(record), expect: .absent)
        return token
    }

    /// Takes the name of a host that joined without a token: the first one, or one of the lab.
    package func register(_ identity: HostIdentity) async throws {
        let record = CertificateRecord(token: "", keyHash: identity.keyHash, issued: now().timeIntervalSince1970)
        do {
            try await store.put(CertificateRecord.key(identity.host), try encode(record), expect: .absent)
        } catch StoreError.conflict(let current) {
            let known = try current.map { try decode(CertificateRecord.self, $0.value) }
            guard known?.keyHash == record.keyHash else { throw Self.nameTaken(identity.host) }
        }
    }

    /// Frees a host's name; its certificate is not revoked, so its key must be destroyed.
    package func release(_ host: String) async throws {
        try await store.delete(CertificateRecord.key(host), expect: .any)
    }

    /// Uses a token for a host, once.
    ///
    /// The name is taken before the token is used up, so that a wrong name costs no token. Whoever comes again with the
    /// same token, name and key gets the same answer: its first answer may have been lost.
    func redeem(id: String, secret: [UInt8], host: String, keyHash: String) async throws {
        guard let entry = try await store.get(JoinTokenRecord.key(id)),
            case let record = try decode(JoinTokenRecord.self, entry.value),
            Self.equal(Array(JoinToken.hash(secret).utf8), Array(record.secretHash.utf8))
        else { throw Self.refused("the join token is not one of this cluster's") }
        if let user = record.host {
            guard user == host, record.keyHash == keyHash else {
                throw Self.refused("the join token was used by host '\(user)' before")
            }
        }
        guard now().timeIntervalSince1970 < record.expires else { throw Self.refused("the join token has expired") }
        try await takeName(host, CertificateRecord(token: id, keyHash: keyHash, issued: now().timeIntervalSince1970))
        guard record.host == nil else { return }
        var used = record
        used.host = host
        used.keyHash = keyHash
        do {
            try await store.put(JoinTokenRecord.key(id), try encode(used), expect: .revision(entry.revision))
        } catch StoreError.conflict(let current) {
            // Somebody used it in the same moment: ourselves, asking twice, or another host.
            let winner = try current.map { try decode(JoinTokenRecord.self, $0.value) }
            guard let winner, winner.host == host, winner.keyHash == keyHash else {
                try await giveBack(host, token: id, keyHash: keyHash)
                throw Self.refused("the join token was used by host '\(winner?.host ?? "?")' before")
            }
        }
    }

    private func takeName(_ host: String, _ record: CertificateRecord) async throws {
        let key = CertificateRecord.key(host)
        do {
            try await store.put(key, try encode(record), expect: .absent)
        } catch StoreError.conflict(let current?) {
            let holder = try decode(CertificateRecord.self, current.value)
            guard holder.token == record.token else { throw Self.nameTaken(host) }
            // An earlier attempt with this token, perhaps with another key, was interrupted: the token decides.
            try await store.put(key, try encode(record), expect: .revision(current.revision))
        }
    }

    /// Frees a name that was taken for a host whose token turned out to be used.
    private func giveBack(_ host: String, token: String, keyHash: String) async throws {
        guard let entry = try await store.get(CertificateRecord.key(host)) else { return }
        let holder = try decode(CertificateRecord.self, entry.value)
        guard holder.token == token, holder.keyHash == keyHash else { return }
        try await store.delete(CertificateRecord.key(host), expect: .revision(entry.revision))
    }

    private func prune() async throws {
        let limit = now().timeIntervalSince1970 - 86400
        for entry in try await store.list(prefix: JoinTokenRecord.key("")) {
            guard let record = try? decode(JoinTokenRecord.self, entry.value), record.expires < limit else { continue }
            // Somebody else may prune it at the same time.
            _ = try? await store.delete(entry.key, expect: .revision(entry.revision))
        }
    }

    /// Compares in a time that does not tell how much was right.
    private static func equal(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private static func refused(_ cause: String) -> OrchestratorError {
        OrchestratorError(
            .tokenRefused,
            cause: cause,
            remedy: "get a new one from `smirun cluster token` on the host where `smirun cluster init` ran"
        )
    }

    private static func nameTaken(_ host: String) -> OrchestratorError {
        OrchestratorError(
            .hostNameTaken,
            cause: "the cluster has a host '\(host)' already",
            remedy: "choose another name with --name, or remove the old host from the cluster first"
        )
    }
}

extension OrchestratorError.Code {
    /// A join token that is unknown, used or expired.
    package static let tokenRefused = OrchestratorError.Code(rawValue: "token-refused")
    /// A host asks for a name that another one has.
    package static let hostNameTaken = OrchestratorError.Code(rawValue: "host-name-taken")
}

extension HostIdentity {
    /// SHA-256 of the public key.
    var keyHash: String { key.publicKey.hash }
}
