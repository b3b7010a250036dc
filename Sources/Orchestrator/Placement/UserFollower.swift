import Logging
import Mobility

/// Follows users: from roaming records to predictions, replica plans and hand-offs. One host of a cluster does this for
/// all, so that the predictor sees every user's whole way; docs/roaming-events.md says which.
package actor UserFollower {
    /// What the follower works with.
    package struct Surroundings: Sendable {
        package var store: any ClusterStore
        package var actions: any FollowActions
        package var events: EventLog
        /// Where what was learned is kept; nil forgets it with the process.
        package var memory: PredictorFile?
        package var logger: Logger
        /// Is told the names of the access points whenever they change.
        package var namesChanged: @Sendable ([String]) -> Void

        /// Everything a follower needs.
        package init(
            store: any ClusterStore,
            actions: any FollowActions,
            events: EventLog,
            memory: PredictorFile?,
            logger: Logger,
            namesChanged: @escaping @Sendable ([String]) -> Void = { _ in }
        ) {
            self.store = store
            self.actions = actions
            self.events = events
            self.memory = memory
            self.logger = logger
            self.namesChanged = namesChanged
        }
    }

    /// What is known of a user who has an SMI.
    struct Followed {
        var follow: UserFollow
        var isRunning: Bool
        /// The host that the SMI came from last and that keeps its copy.
        var previousOwner: String?
        /// The prediction that the plan is to be made from.
        var prediction: Prediction?
        var isPlanning = false
        /// Whether something changed while the plan was made.
        var planAgain = false
        /// Seconds that replicating this SMI takes, as of the last plan.
        var lead: Double?
    }

    /// Bytes per second of a link that nothing was measured on yet: 50 Mbit/s.
    package static let assumedLink = 6_250_000.0
    /// Seconds between two writes of what was learned.
    static let keepInterval = 60.0

    let around: Surroundings
    var map = APMap()
    var planner: ReplicaPlanner
    var followed: [String: Followed] = [:]
    /// Bytes per second that the last hand-off from each host had.
    var links: [String: Double] = [:]
    private var predictor = Predictor(map: APMap())
    private var points: [String: AccessPoint] = [:]
    private var isRemapping = false
    private var unkept = 0

    /// A follower that knows nothing yet; `begin` comes next.
    package init(_ surroundings: Surroundings, planner: ReplicaPlanner = ReplicaPlanner()) {
        around = surroundings
        self.planner = planner
    }

    /// Reads the map, who has an SMI and what an earlier daemon has learned: records may come right after this.
    package func begin() async throws {
        for (record, _) in try await around.store.records(SMIRecord.self, prefix: SMIRecord.prefix) { note(record) }
        for (record, _) in try await around.store.records(AccessPointRecord.self, prefix: AccessPointRecord.prefix) {
            points[AccessPointRecord.key(record.name)] = record.accessPoint
        }
        map = currentMap
        predictor = Predictor(map: map)
        around.namesChanged(map.accessPoints.map(\.name))
        guard let bytes = await around.memory?.read() else { return }
        do {
            predictor = try Predictor(snapshot: bytes, map: map)
        } catch {
            around.logger.warning(
                "the predictor starts from what it shipped with",
                metadata: ["cause": "\(error.cause)", "remedy": "the file was put aside as predictor.damaged"]
            )
            await around.memory?.setAside()
        }
    }

    /// Follows the store, and keeps what was learned, until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            for prefix in [AccessPointRecord.prefix, SMIRecord.prefix] { group.addTask { await self.watch(prefix) } }
            group.addTask {
                while !Task.isCancelled {
                    // A follower that ends is asked to keep what it learned by whoever ends it.
                    guard (try? await Task.sleep(for: .seconds(Self.keepInterval))) != nil else { return }
                    await self.keep()
                }
            }
        }
    }

    /// Writes what was learned since the last time.
    package func keep() async {
        guard unkept > 0, let memory = around.memory else { return }
        unkept = 0
        await memory.write(predictor.snapshot())
    }

    // MARK: - Records

    /// Takes a roaming record: predicts, learns, and follows the user where they have an SMI.
    package func on(_ record: RoamingRecord) {
        unkept += 1
        let user = record.user
        guard record.kind.isAssociation else {
            predictor.learn(record)
            steer(user, .left)
            return
        }
        let prediction = predictor.predict(record, leads: [5] + [followed[user]?.lead].compactMap { $0 })
        predictor.learn(record)
        guard followed[user] != nil else { return }
        followed[user]?.prediction = prediction
        let hold = prediction.isFlap || record.flap == true ? planner.configuration.confirmAfter : nil
        if let host = map[record.ap]?.host {
            if let hold, followed[user]?.follow.owner != host {
                around.events.note("held", user: user, ["ap": record.ap, "to": host, "seconds": "\(hold)"])
            }
            steer(user, .at(host: host, hold: hold))
        } else {
            steer(user, .left)
        }
        plan(user)
    }

    /// Tells the state machine of a user and does what it says.
    func steer(_ user: String, _ event: UserFollow.Event) {
        guard let effects = followed[user]?.follow.on(event) else { return }
        for effect in effects {
            switch effect {
            case .wait(let ticket, let seconds):
                Task { [weak self] in
                    try? await Task.sleep(for: .seconds(seconds))
                    await self?.steer(user, .elapsed(ticket: ticket))
                }
            case .handOff(let host):
                guard let owner = followed[user]?.follow.owner else { continue }
                Task { [weak self] in await self?.move(user, from: owner, to: host) }
            case .giveUp(let attempts):
                around.events.note("gave-up", user: user, ["attempts": "\(attempts)"])
            }
        }
    }

    private func move(_ user: String, from owner: String, to host: String) async {
        guard followed[user]?.isRunning == true else { return steer(user, .handOffFailed) }
        do {
            let report = try await around.actions.handOff(user, from: owner, to: host)
            // What small hand-offs take is not the link's doing.
            if report.wireBytes > 1 << 20, report.totalMs > 0 {
                links[report.from] = Double(report.wireBytes) / report.totalMs * 1000
            }
            if report.from != report.to { followed[user]?.previousOwner = report.from }
            steer(user, .handedOff(to: report.to, generation: report.generation))
        } catch {
            let error = OrchestratorError(wrapping: error)
            around.events.note("not-followed", user: user, ["to": host, "cause": error.cause, "remedy": error.remedy])
            steer(user, .handOffFailed)
        }
        plan(user)
    }

    // MARK: - What the store says

    /// Takes the record of an SMI, which may have been launched a moment ago.
    package func note(_ record: SMIRecord) {
        let user = record.user
        if followed[user] == nil {
            let follow = UserFollow(owner: record.host, generation: record.generation)
            followed[user] = Followed(follow: follow, isRunning: record.state == .running)
        }
        followed[user]?.isRunning = record.state == .running
        if let last = record.lastHandoff { followed[user]?.previousOwner = last.from }
        steer(user, .owned(by: record.host, generation: record.generation))
    }

    /// Takes the record of an access point, which may have been imported a moment ago.
    package func note(_ record: AccessPointRecord) {
        points[AccessPointRecord.key(record.name)] = record.accessPoint
        remap()
    }

    private func forget(_ user: String) async {
        guard followed.removeValue(forKey: user) != nil else { return }
        planner.forget(user)
        _ = try? await around.store.delete(ReplicaPlan.key(user), expect: .any)
    }

    private func watch(_ prefix: String) async {
        while !Task.isCancelled {
            do {
                for try await event in around.store.watch(prefix: prefix) { try await apply(event, prefix) }
            } catch {
                around.logger.debug("following waits for the store", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    private func apply(_ event: StoreEvent, _ prefix: String) async throws {
        switch (event, prefix) {
        case (.snapshot(let entries, _), SMIRecord.prefix):
            let records = try entries.map { try decode(SMIRecord.self, $0.value) }
            for user in Set(followed.keys).subtracting(records.map(\.user)) { await forget(user) }
            for record in records { note(record) }
        case (.put(let entry), SMIRecord.prefix):
            note(try decode(SMIRecord.self, entry.value))
        case (.deleted(let key, _), SMIRecord.prefix):
            await forget(String(key.dropFirst(SMIRecord.prefix.count)))
        case (.snapshot(let entries, _), _):
            points = [:]
            for entry in entries { points[entry.key] = try decode(AccessPointRecord.self, entry.value).accessPoint }
            remapSoon()
        case (.put(let entry), _):
            points[entry.key] = try decode(AccessPointRecord.self, entry.value).accessPoint
            remapSoon()
        case (.deleted(let key, _), _):
            points[key] = nil
            remapSoon()
        }
    }

    private var currentMap: APMap { APMap(points.sorted { $0.key < $1.key }.map(\.value)) }

    /// An import writes many access points one after the other: they are taken together.
    private func remapSoon() {
        guard !isRemapping else { return }
        isRemapping = true
        Task { [weak self] in
            try? await Task.sleep(for: .milliseconds(100))
            await self?.remapNow()
        }
    }

    private func remapNow() {
        isRemapping = false
        remap()
    }

    private func remap() {
        let new = currentMap
        let places = { (map: APMap) in map.accessPoints.map { [$0.x, $0.y] } }
        let names = { (map: APMap) in map.accessPoints.map(\.name) }
        let moved = names(new) != names(map) || places(new) != places(map)
        map = new
        guard moved else { return }
        // What was learned stays; neighbours and distances are new.
        if let again = try? Predictor(snapshot: predictor.snapshot(), map: new) { predictor = again }
        around.namesChanged(names(new))
    }
}
