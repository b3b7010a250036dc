import Foundation
import LinuxSystem

/// Makes one cluster of a lab's hosts, with the commands that real machines use, run inside each host.
struct LabCluster {
    let lab: Lab
    private var layout: LabLayout { lab.layout }

    init(lab: Lab) {
        self.lab = lab
    }

    /// One host of `smirun host ls -o json`, as far as it matters here.
    private struct Listed: Decodable {
        let name: String
        let state: String
    }

    /// The first host founds the cluster, the others join it, and every daemon is awaited.
    func form(_ record: inout LabRecord) throws(LabError) {
        guard let first = record.hosts.first else { return }
        if !first.isMember {
            lab.progress("founding the cluster on \(first.name)")
            try run(on: first, ["cluster", "init"] + membership(first))
            record.hosts[0].isMember = true
        }
        try want(&record, [0])
        let joining = record.hosts.indices.filter { !record.hosts[$0].isMember }
        if !joining.isEmpty {
            try awaitReady(record, [first.name])
            lab.progress("joining \(joining.count == 1 ? "1 host" : "\(joining.count) hosts")")
            try join(&record, joining)
        }
        try want(&record, Array(record.hosts.indices))
        lab.progress("waiting for the daemons")
        try awaitReady(record, record.hosts.map(\.name))
    }

    private func membership(_ host: LabHost) -> [String] {
        [
            "--name", host.name, "--address", host.address, "--address", host.address6,
            "--config", layout.configurationFile,
        ]
    }

    /// Tells the supervisor to run these hosts' daemons.
    private func want(_ record: inout LabRecord, _ indices: [Int]) throws(LabError) {
        for index in indices { record.hosts[index].wantsDaemon = true }
        record.revision += 1
        try RecordFile.store(record, at: layout.record)
        WakeUp.send(layout.supervisorPipe)
    }

    /// Lets hosts join, a few at a time: each with a token of its own, as a token may serve only once.
    private func join(_ record: inout LabRecord, _ indices: [Int]) throws(LabError) {
        let hosts = indices.map { record.hosts[$0] }
        let first = record.hosts[0]
        var rest = hosts[...]
        while !rest.isEmpty {
            let batch = rest.prefix(8)
            rest = rest.dropFirst(8)
            let tokens = try runAll(batch.map { _ in (first, ["cluster", "token"]) })
            var joins: [(LabHost, [String])] = []
            for (host, output) in zip(batch, tokens) {
                joins.append((host, ["host", "join", output.trimmed] + membership(host)))
            }
            _ = try runAll(joins)
        }
        for index in indices { record.hosts[index].isMember = true }
    }

    /// Tells the cluster which access point belongs to which host.
    func importAccessPoints(_ record: LabRecord) throws(LabError) {
        guard let first = record.hosts.first else { return }
        try run(on: first, ["ap", "import", layout.configuration + "/aps.csv"])
    }

    /// Waits until the first host's daemon lists all of these as ready.
    private func awaitReady(_ record: LabRecord, _ names: [String]) throws(LabError) {
        guard let first = record.hosts.first, let holder = first.holder else { return }
        let deadline = ContinuousClock.now + .seconds(30) + .seconds(names.count)
        let socket = layout.reach(LabLayout.sockets[0], holder: holder.pid)
        var answer = Answer(ready: [], problem: "it has no socket yet")
        while true {
            let supervised = RecordFile.load(SupervisorRecord.self, from: layout.supervisorRecord)
            // A daemon just killed may be listed as ready for a while: it must also run.
            var missing = names.filter { !(supervised?.daemons[$0]?.isAlive ?? false) }
            if missing.isEmpty {
                if access(socket, F_OK) == 0 { answer = try ask(first) }
                missing = names.filter { !answer.ready.contains($0) }
                if missing.isEmpty { return }
            }
            try refuseFailing(supervised, missing)
            guard ContinuousClock.now < deadline else { throw notReady(missing, answer.problem) }
            // A daemon has no way to announce that it is ready but to answer; asking costs it a millisecond.
            poll(nil, 0, 20)
        }
    }

    /// What the first host's daemon says.
    private struct Answer {
        /// Hosts that answer it.
        let ready: Set<String>
        /// Why it said nothing.
        let problem: String?
    }

    private func ask(_ first: LabHost) throws(LabError) -> Answer {
        let command = try lab.command(on: first, [lab.binary, "host", "ls", "-o", "json"])
        let result = try during("running \(lab.binary)") { () throws(SyscallError) in
            try command.run(timeout: .seconds(5))
        }
        let hosts = try? JSONDecoder().decode([Listed].self, from: Data(result.output.utf8))
        guard let hosts, result.status == 0 else {
            let reason = result.timedOut ? "no answer within 5 s" : result.error.trimmed.tail(lines: 2)
            return Answer(ready: [], problem: "`smirun host ls` on \(first.name) says: \(reason)")
        }
        return Answer(ready: Set(hosts.filter { $0.state == "ready" }.map(\.name)), problem: nil)
    }

    /// Does not wait for a daemon that ends each time it is started.
    private func refuseFailing(_ supervised: SupervisorRecord?, _ names: [String]) throws(LabError) {
        for name in names {
            guard let daemon = supervised?.daemons[name], daemon.failures >= 3 else { continue }
            let status = daemon.lastExit.map { " with status \($0)" } ?? ""
            throw LabError(
                .daemonFailed,
                cause: "the daemon of \(name) ended\(status) each time it was started",
                remedy: "its log says why: \(layout.files(of: name).log)",
                log: logTail(name)
            )
        }
    }

    private func notReady(_ names: [String], _ problem: String?) -> LabError {
        let name = names.first ?? ""
        return LabError(
            .timedOut,
            cause: "not ready in time: \(names.joined(separator: ", "))" + (problem.map { "; \($0)" } ?? ""),
            remedy: "the log of its daemon says why: \(layout.files(of: name).log)",
            log: logTail(name)
        )
    }

    private func logTail(_ name: String) -> String? {
        (try? FileContents.string(of: layout.files(of: name).log))?.tail()
    }

    @discardableResult
    private func run(on host: LabHost, _ arguments: [String]) throws(LabError) -> String {
        try runAll([(host, arguments)]).first ?? ""
    }

    /// Runs the product's commands on hosts, all at once, and returns what they print.
    private func runAll(_ commands: [(host: LabHost, arguments: [String])]) throws(LabError) -> [String] {
        var runs: [HelperRun] = []
        for (host, arguments) in commands {
            let command = try lab.command(on: host, [lab.binary] + arguments)
            runs.append(try during("running \(lab.binary)") { () throws(SyscallError) in try command.begin() })
        }
        // All of them are waited for before one is complained about.
        let results = try during("running \(lab.binary)") { () throws(SyscallError) in
            var results: [HelperResult] = []
            for run in runs { results.append(try run.finish()) }
            return results
        }
        for (command, result) in zip(commands, results) where result.status != 0 || result.timedOut {
            let reason = result.timedOut ? "no end within 30 s" : result.error.trimmed.tail(lines: 5)
            let words = command.arguments.prefix(2).joined(separator: " ")
            throw LabError(
                .daemonFailed,
                cause: "`smirun \(words)` failed on \(command.host.name): \(reason)",
                remedy: "the logs are kept in \(layout.directory)",
                log: logTail(command.host.name)
            )
        }
        return results.map(\.output)
    }
}
