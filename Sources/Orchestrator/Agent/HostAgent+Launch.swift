import Isolation

extension HostAgent {
    /// Launches an SMI on this host.
    ///
    /// The record is written first, as `launching`, so that two launches of one user cannot both succeed anywhere in
    /// the cluster; it is removed again where the launch fails.
    package func launch(_ request: LaunchRequest) async throws -> LaunchReply {
        try Self.check(request)
        try begin(request.user, .launching)
        defer { end(request.user) }
        let start = ContinuousClock.now
        let digest = try await around.images.resolve(request.image)
        let record = try await reserve(request, digest: digest)
        let process: SandboxProcess
        do {
            process = try await around.sandboxes.launch(record.spec)
        } catch {
            await unreserve(record)
            throw error
        }
        return try await confirm(record, process: process, start: start)
    }

    private func confirm(
        _ record: SMIRecord,
        process: SandboxProcess,
        start: ContinuousClock.Instant
    ) async throws -> LaunchReply {
        var launched = record
        launched.state = .running
        do {
            guard let (current, revision) = try await around.store.record(of: record.user),
                current.attempt == record.attempt
            else {
                throw OrchestratorError(
                    .internalError,
                    cause: "the record of \(record.user) changed during its launch",
                    remedy: "run `smirun ls` and launch again"
                )
            }
            try await around.store.write(SMIRecord.key(record.user), launched, expect: .revision(revision))
        } catch {
            try? await around.sandboxes.destroy(record.user)
            await unreserve(record)
            throw error
        }
        nowRunning(record.user, generation: launched.generation)
        await around.memory?.began(launched)
        let elapsed = milliseconds(ContinuousClock.now - start)
        around.events.note("launched", user: record.user, ["image": record.imageName, "ms": "\(elapsed)"])
        return LaunchReply(
            user: record.user,
            host: host,
            generation: launched.generation,
            addresses: AddressesView(record.spec.address),
            image: record.spec.image,
            pid: process.pid,
            launchMs: elapsed,
            phases: process.phases
        )
    }

    private static func check(_ request: LaunchRequest) throws {
        func bad(_ cause: String, _ remedy: String) -> OrchestratorError {
            OrchestratorError(.badArgument, cause: cause, remedy: remedy)
        }
        guard isValidUserName(request.user) else {
            throw bad(
                "'\(request.user)' is not a user name",
                "use a letter, then at most 31 letters, digits and hyphens, all lower case"
            )
        }
        guard request.memory >= 4 << 20 else { throw bad("memory limit too small", "give at least 4M") }
        guard request.cpus >= 0.01, request.cpus <= 1024 else {
            throw bad("\(request.cpus) processors cannot be given", "use a number from 0.01 to 1024")
        }
        guard request.pids >= 4 else { throw bad("a limit of \(request.pids) processes", "give at least 4") }
    }

    /// Takes a free address and the user's name in the store.
    private func reserve(_ request: LaunchRequest, digest: String) async throws -> SMIRecord {
        if let (existing, _) = try await around.store.record(of: request.user) { throw Self.exists(existing) }
        var generator = SystemRandomNumberGenerator()
        let secret = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let index = try await reserveIndex(for: request.user)
        let record = SMIRecord(
            user: request.user,
            host: host,
            generation: 1,
            state: .launching,
            spec: SandboxSpec(
                user: request.user,
                image: digest,
                program: request.program,
                environment: request.environment,
                limits: ResourceLimits(memory: request.memory, cpus: request.cpus, pids: request.pids),
                address: SandboxAddress(index: index),
                secret: secret
            ),
            imageName: request.image,
            createdAt: secondsSince1970(),
            attempt: newAttemptName(),
            lastHandoff: nil,
            wholeCopy: request.wholeCopy
        )
        do {
            try await around.store.write(SMIRecord.key(request.user), record, expect: .absent)
        } catch {
            _ = try? await around.store.delete(addressKey(index), expect: .any)
            if let (existing, _) = try await around.store.record(of: request.user) { throw Self.exists(existing) }
            throw error
        }
        return record
    }

    private func reserveIndex(for user: String) async throws -> Int {
        let taken = try await around.store.list(prefix: "address/").compactMap { Int($0.key.dropFirst(8)) }
        var used = Set(taken)
        for index in 1...65534 where !used.contains(index) {
            do {
                try await around.store.put(addressKey(index), Array(user.utf8), expect: .absent)
                return index
            } catch {
                guard isConflict(error) else { throw error }
                used.insert(index)
            }
        }
        throw OrchestratorError(
            .badArgument,
            cause: "all 65534 addresses are taken",
            remedy: "remove SMIs that nobody needs with `smirun rm`"
        )
    }

    /// Removes the record and gives the address back.
    func unreserve(_ record: SMIRecord) async {
        do {
            try await around.store.delete(SMIRecord.key(record.user), expect: .any)
            try await around.store.delete(addressKey(record.spec.address.index), expect: .any)
        } catch {
            around.logger.error("record not removed", metadata: ["user": "\(record.user)", "error": "\(error)"])
        }
    }

    private func addressKey(_ index: Int) -> String { "address/\(index)" }

    private static func exists(_ record: SMIRecord) -> OrchestratorError {
        OrchestratorError(
            .userExists,
            cause: "\(record.user) exists already, \(record.state.rawValue) on \(record.host)",
            remedy:
                "attach to it with `smirun attach \(record.user)`, or remove it first with `smirun rm \(record.user)`"
        )
    }
}

extension AddressesView {
    /// The addresses of a sandbox as they are shown.
    package init(_ address: SandboxAddress) {
        let hex = address.mac.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }
        self.init(ipv4: address.ipv4, ipv6: address.ipv6, mac: hex.joined(separator: ":"))
    }
}
