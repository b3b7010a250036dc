import ArgumentParser

/// The command line's root.
struct Smirun: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "smirun",
        abstract: "One machine that follows its user from host to host, live.",
        version: buildVersion,
        groupedSubcommands: [
            CommandGroup(
                name: "Machines",
                subcommands: [
                    LaunchCommand.self, AttachCommand.self, ExecCommand.self, HandoffCommand.self, ListCommand.self,
                    ProcessesCommand.self, InspectCommand.self, EventsCommand.self, LogsCommand.self, StopCommand.self,
                    RemoveCommand.self, ReplicaCommand.self,
                ]
            ),
            CommandGroup(
                name: "Cluster",
                subcommands: [
                    ClusterCommand.self, HostCommand.self, AccessPointCommand.self, ImageCommand.self,
                    DaemonCommand.self,
                    DoctorCommand.self,
                ]
            ),
            CommandGroup(
                name: "Roaming",
                subcommands: [RoamCommand.self, MobilityCommand.self]
            ),
            CommandGroup(
                name: "Trying it out",
                subcommands: [DemoCommand.self, LabCommand.self, BenchCommand.self]
            ),
        ]
    )
}

/// The version that `--version` prints and daemons tell each other.
let buildVersion = "0.1.0"
