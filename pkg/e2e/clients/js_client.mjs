// An AWS program as users write it with the AWS SDK for JavaScript v3, told line by
// line what to do: see boto3_client.py for the commands.
import { createInterface } from "node:readline";
import { STSClient, GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { MetadataService } from "@aws-sdk/ec2-metadata-service";

const sts = () => new STSClient({ region: "eu-central-1", endpoint: process.argv[2] });

async function whoami(client) {
  const { Arn } = await client.send(new GetCallerIdentityCommand({}));
  return Arn;
}

let living;
const commands = {
  call: () => whoami((living ??= sts())),
  new: () => whoami(sts()),
  region: () => new MetadataService({}).request("/latest/meta-data/placement/region", {}),
};

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = await commands[line.trim()]();
  } catch (e) {
    answer = `error: ${e.name}: ${e.message}`;
  }
  console.log(answer.replaceAll("\n", " "));
}
process.exit(0);
