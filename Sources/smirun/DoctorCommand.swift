import ArgumentParser
import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// `smirun doctor [USER]`.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Say what this host, or a machine, can and cannot do, before it matters."
    )

    @Argument(help: "A machine: what in it could not be moved.")
    var user: String?
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let findings: [FindingView]
        if let user {
            findings = try await daemon.call(.doctor, UserRequest(user: user), as: [FindingView].self)
        } else {
            let configuration = try HostConfiguration.read("/etc/smirun/smirun.toml", mustExist: false)
            findings = try await offload { HostDiagnosis(paths: configuration.paths).findings() }
        }
        if output.format == .json {
            try printJSON(findings)
        } else {
            printTable(
                ["", "WHAT", "FINDING"],
                findings.map { [$0.level, $0.what, $0.finding + ($0.remedy.map { " — \($0)" } ?? "")] }
            )
        }
        if findings.contains(where: { $0.level == "error" }) { throw ExitCode(1) }
    }
}
